"""Checkpoints of several nodes: their parts come in one by one, and are joined when all are in.

A checkpoint is whole when every node has said that its ranks have left its step behind, and the
files of each node that has some are a snapshot. What a node has said is in the database, so
nothing has to be said again after a restart of the server.
"""

from __future__ import annotations

from typing import Literal

from periflow_sdk.api import models as m
from periflow_sdk.errors import NotFoundError, PeriFlowError
from periflow_sdk.snapshots.join import join_manifests
from periflow_sdk.snapshots.manifest import Manifest
from periflow_server.db import part as db
from periflow_server.db.attempt import Attempt, Node, attempt_numbered, nodes_of
from periflow_server.db.base import Database, Session
from periflow_server.db.checkpoint import Checkpoint, upload_of
from periflow_server.db.part import CheckpointPart
from periflow_server.services import attempt as attempts
from periflow_server.services import checkpoint as checkpoints
from periflow_server.services import snapshot
from periflow_server.services.token import AttemptIdentity
from periflow_server.settings import Settings
from periflow_server.storage.store import Store

Standing = Literal["open", "whole", "torn"]


def store(session: Session, identity: AttemptIdentity, body: m.PartsReport) -> list[str]:
    """Keep what a node says; the checkpoints that can be joined now.

    Raises:
        NotFoundError: there is no such attempt, or no such snapshot.
    """
    attempt, node = _speaker(session, identity, body.attempt)
    if body.passages:
        generations = {str(each.generation): [each.step, each.is_over] for each in body.passages}
        node.passed = {"generations": generations, "agreed": body.agreed_step}
    for part in body.parts:
        _note(session, identity.project_id, attempt, node, part)
    session.flush()
    named = {_upload_id(part) for part in body.parts} if body.attempt is None else None
    return _joinable(session, attempt, named)


def states(session: Session, identity: AttemptIdentity, body: m.PartsReport) -> m.PartStates:
    """What became of the checkpoints that a report has named."""
    attempt, _ = _speaker(session, identity, body.attempt, to_change=False)
    found = []
    for part in body.parts:
        checkpoint = upload_of(session, attempt.id, _upload_id(part))
        if checkpoint is not None:
            key = {name: getattr(part, name) for name in m.PartKey.model_fields}
            found.append(m.PartState.model_validate({**key, "status": checkpoint.status}))
    return m.PartStates(parts=found)


def join(database: Database, store: Store, settings: Settings, checkpoint_id: str) -> None:
    """Make one snapshot of the parts of a checkpoint, and publish it; twice is as good as once."""
    with database.read() as session:
        checkpoint = session.get_one(Checkpoint, checkpoint_id)
        parts = [part for part in db.parts_of(session, checkpoint_id) if part.snapshot_id]
        project_id = checkpoint.project_id
    if checkpoint.status == "ready":
        return
    try:
        documents = [
            snapshot.manifest(database, store, project_id, str(part.snapshot_id)) for part in parts
        ]
        joined = join_manifests([Manifest.parse(document) for document in documents])
        found = snapshot.commit_snapshot(database, store, settings, project_id, joined.to_bytes())
        commit = m.CheckpointCommit(snapshot_id=found.id)
    except PeriFlowError as error:
        commit = m.CheckpointCommit(failure=f"Its parts cannot be joined: {error}")
    with database.write() as session:
        _settle(session, session.get_one(Checkpoint, checkpoint_id), commit)


def give_up(session: Session, attempt: Attempt) -> None:
    """The attempt ends: what is not whole by now will not be, unless a later attempt hands it in.

    What can be joined is left to those who do so.
    """
    members = nodes_of(session, attempt.id)
    for checkpoint in db.open_joins(session, attempt.id):
        parts = {part.node: part for part in db.parts_of(session, checkpoint.id)}
        if checkpoint.status != "uploading" or not parts:
            continue
        missing = [each for each in members if _standing(checkpoint, each, parts)[0] == "open"]
        if missing:
            reason = f"node {missing[0].rank} ended before its part was there"
            _settle(session, checkpoint, m.CheckpointCommit(failure=reason))


def _speaker(
    session: Session, identity: AttemptIdentity, number: int | None, *, to_change: bool = True
) -> tuple[Attempt, Node]:
    """The attempt and the node that a report is of: its own, or the node's in an earlier one."""
    _, attempt, node = attempts.of_agent(session, identity, to_change=to_change)
    if number is None or number == attempt.number:
        return attempt, node
    earlier = attempt_numbered(session, identity.job_id, number)
    found = (
        [each for each in nodes_of(session, earlier.id) if each.rank == node.rank]
        if (earlier is not None and number < attempt.number)
        else []
    )
    if earlier is None or not found:
        raise NotFoundError(f"This job has no earlier attempt {number}.", code="attempt_not_found")
    return earlier, found[0]


def _note(
    session: Session, project_id: str, attempt: Attempt, node: Node, said: m.CheckpointPart
) -> None:
    checkpoint = upload_of(session, attempt.id, _upload_id(said))
    if checkpoint is None:
        checkpoint = Checkpoint(
            project_id=project_id,
            job_id=attempt.job_id,
            attempt_id=attempt.id,
            attempt_number=attempt.number,
            upload_id=_upload_id(said),
            step=said.step,
            save_type=said.save_type,
            size=0,
        )
        session.add(checkpoint)
        session.flush()
    part = db.part_of(session, checkpoint.id, node.rank)
    if part is None:
        part = CheckpointPart(
            checkpoint_id=checkpoint.id,
            node=node.rank,
            project_id=project_id,
            generation=said.generation,
            size=0,
            first_rank=said.first_rank,
        )
        session.add(part)
    if checkpoint.status == "ready" or part.status == "whole":
        return
    if said.snapshot_id is not None:
        part.snapshot_id = snapshot.find_snapshot(session, project_id, said.snapshot_id).id
    part.status = "whole" if said.snapshot_id else "failed" if said.failure else "announced"
    part.reason, part.shards = said.failure, {k: list(v) for k, v in said.shards.items()}
    checkpoint.size += said.size - part.size
    part.size = said.size


def _joinable(session: Session, attempt: Attempt, named: set[str] | None) -> list[str]:
    """The checkpoints of an attempt that are whole and not joined; settles those that are torn.

    Args:
        named: Of those that have failed, look at these only; at all if None.
    """
    members = nodes_of(session, attempt.id)
    found = []
    for checkpoint in db.open_joins(session, attempt.id):
        if checkpoint.status == "failed" and not (named is None or checkpoint.upload_id in named):
            continue
        parts = {part.node: part for part in db.parts_of(session, checkpoint.id)}
        standings = [_standing(checkpoint, node, parts) for node in members] if parts else []
        reason = next((why for standing, why in standings if standing == "torn"), "")
        if not reason and all(standing == "whole" for standing, _ in standings):
            reason = _lack(list(parts.values()))
            if parts and not reason:
                found.append(checkpoint.id)
        if reason and checkpoint.status != "failed":
            _settle(session, checkpoint, m.CheckpointCommit(failure=reason))
    return found


def _standing(
    checkpoint: Checkpoint, node: Node, parts: dict[int, CheckpointPart]
) -> tuple[Standing, str]:
    """Whether a node may still have something for a checkpoint, has all, or never will, and why."""
    part = parts.get(node.rank)
    said = node.passed or {"generations": {}, "agreed": None}
    where = f"node {node.rank}"
    if part is not None and part.status != "whole":
        is_torn = part.status == "failed"
        return ("torn", f"{where}: {part.reason}") if is_torn else ("open", "")
    if part is None:
        generation = str(next(iter(parts.values())).generation)
        step, is_over = said["generations"].get(generation, [-1, False])
        if step < checkpoint.step:
            passed = f"before its ranks had passed step {checkpoint.step}"
            return ("torn", f"the training on {where} ended {passed}") if is_over else ("open", "")
    if checkpoint.save_type == "EMERGENCY" and said["agreed"] not in (None, checkpoint.step):
        # What the others have saved lacks its part.
        return "torn", f"{where} had not agreed to step {checkpoint.step} in time"
    return "whole", ""


def _lack(parts: list[CheckpointPart]) -> str:
    """What is missing of sharded checkpoints; empty if nothing is."""
    wanted: dict[str, int] = {}
    here: dict[str, int] = {}
    for part in parts:
        for folder, (ranks, count) in part.shards.items():
            wanted[folder] = max(ranks, wanted.get(folder, 0))
            here[folder] = here.get(folder, 0) + count
    for folder, ranks in wanted.items():
        if here[folder] < ranks:
            return f"not all of {ranks} ranks have a part of {folder}"
    return ""


def _settle(session: Session, checkpoint: Checkpoint, commit: m.CheckpointCommit) -> None:
    if checkpoint.status == "ready":
        return
    checkpoints.settle(session, checkpoint, commit)
    if checkpoint.status == "ready":
        for part in db.parts_of(session, checkpoint.id):
            part.snapshot_id = None  # the joined one has all


def _upload_id(key: m.PartKey) -> str:
    return f"{key.generation}-{key.step}-{key.save_type}-{key.number}"
