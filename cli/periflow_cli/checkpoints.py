"""Checkpoints: found by id or unique start of one."""

from __future__ import annotations

from periflow_cli.connection import Connection
from periflow_cli.names import known
from periflow_sdk.api.models import Checkpoint
from periflow_sdk.errors import ConflictError, NotFoundError


def find_checkpoint(connection: Connection, reference: str) -> Checkpoint:
    """The checkpoint of an id, a unique id prefix or ``latest``.

    Raises:
        NotFoundError: with the nearest ids.
        ConflictError: the prefix means several.
    """
    client, project = connection.client, connection.project
    if reference == "latest":
        return _latest(connection)
    with known(
        "checkpoint",
        reference,
        lambda: [each.id for each in client.checkpoints(project.id)],
        "pf checkpoint list",
        where=f"in project {project.name}",
    ):
        return client.checkpoint(project.id, reference)


def _latest(connection: Connection) -> Checkpoint:
    client, project = connection.client, connection.project
    try:
        return client.checkpoint(project.id, "latest")
    except NotFoundError as error:
        raise NotFoundError(
            f"There is no checkpoint in project {project.name} yet.",
            code=error.code,
            hint="In the script, pf.save_checkpoint() saves one, and pf.upload_checkpoint() sends "
            "what was saved in CKPT_DIR.",
        ) from error


def snapshot_of(checkpoint: Checkpoint) -> str:
    """The snapshot of a checkpoint.

    Raises:
        ConflictError: it is not whole (yet).
    """
    if checkpoint.status == "ready" and checkpoint.snapshot_id:
        return checkpoint.snapshot_id
    why = f": {checkpoint.reason}" if checkpoint.reason else ""
    raise ConflictError(
        f"Checkpoint {checkpoint.id} is {checkpoint.status}{why}.",
        code="checkpoint_not_ready",
        hint="pf checkpoint list",
    )
