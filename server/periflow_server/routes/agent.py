"""What node agents call with their job tokens. Every call may be repeated."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from periflow_sdk.api import models as m
from periflow_sdk.errors import InvalidRequestError
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import (
    CurrentAttempt,
    CurrentSettings,
    CurrentStore,
    CurrentVault,
    Db,
    RawBody,
)
from periflow_server.routes.outgoing import StoreTurn
from periflow_server.services import agent as service
from periflow_server.services import (
    attached,
    checkpoint,
    dataset_link,
    job_credential,
    journal,
    log,
    part,
    record,
    round,
)

router = APIRouter(prefix=PREFIX + "/agent", tags=["agent"])


Offset = Annotated[int, Query(ge=0, lt=2**62)]


@router.get("/assignment")
def assignment(identity: CurrentAttempt, database: Db) -> m.Assignment:
    """Everything the agent needs to run its node."""
    with database.read() as session:
        return service.assignment(session, identity)


@router.get("/credentials")
def credentials(
    identity: CurrentAttempt,
    database: Db,
    vault: CurrentVault,
    settings: CurrentSettings,
    response: Response,
) -> m.JobCredentials:
    """The values of what the job's file names, until they are closed. Each call is a use."""
    response.headers["Cache-Control"] = "no-store"
    with database.write() as session:
        return job_credential.hand_out(session, vault, identity, {"wandb": settings.wandb_url})


@router.post("/credentials/close", status_code=204)
def close_credentials(identity: CurrentAttempt, database: Db) -> None:
    """Before the command starts: nothing is handed out to this node any more."""
    with database.write() as session:
        job_credential.close(session, identity)


@router.get("/datasets/{name}/access")
def dataset_access(
    identity: CurrentAttempt,
    name: str,
    database: Db,
    vault: CurrentVault,
    settings: CurrentSettings,
    response: Response,
) -> m.DatasetAccess:
    """What is needed to read a dataset that the job's file names. Each call is a use."""
    response.headers["Cache-Control"] = "no-store"
    with database.write() as session:
        return dataset_link.access_of_job(session, vault, settings, identity, name)


@router.post("/register")
def register(identity: CurrentAttempt, body: m.AgentRegister, database: Db) -> m.Rendezvous:
    """Say where the agent is; ``ready`` once the whole gang has."""
    with database.write() as session:
        return service.register(session, identity, body)


@router.post("/heartbeat")
def heartbeat(identity: CurrentAttempt, body: m.AgentHeartbeat, database: Db) -> m.AgentOrders:
    """Say that the agent lives; hear what is wanted."""
    with database.write() as session:
        return service.heartbeat(session, identity, body)


@router.post("/events", status_code=204)
def report_event(identity: CurrentAttempt, body: m.AgentEvent, database: Db) -> None:
    """Put a word into the job's history."""
    with database.write() as session:
        service.report(session, identity, body)


@router.post("/system", status_code=204)
def report_system(identity: CurrentAttempt, body: m.NodeSystem, database: Db) -> None:
    """Say what machine the node is, and what the job's Python sees there."""
    with database.write() as session:
        service.note_system(session, identity, body)


@router.post("/journal")
def ship_journal(
    identity: CurrentAttempt,
    database: Db,
    body: RawBody,
    rank: Annotated[int, Query(ge=-(1 << 20), lt=1 << 20)],
    segment: Annotated[str, Query(pattern=r"^[A-Za-z0-9._-]{1,64}$")],
    offset: Offset,
) -> m.Accepted:
    """Take whole lines of a segment. What follows the last newline is left for the next time.

    Rank -1 - n is node n itself: what its agent measures.
    """
    whole = body[: body.rfind(b"\n") + 1]
    batch = record.read(whole)
    with database.write() as session:
        accepted = journal.store(session, identity, rank, segment, offset, len(whole), batch)
    return m.Accepted(offset=accepted)


@router.post("/log")
def ship_log(
    identity: CurrentAttempt, database: Db, store: CurrentStore, body: RawBody, offset: Offset
) -> m.Accepted:
    """Take output of the command."""
    with database.write() as session:
        accepted = log.append(session, identity, offset, body)
    log.seal(database, store, identity)
    return m.Accepted(offset=accepted)


@router.post("/checkpoints", status_code=201)
def start_checkpoint(
    identity: CurrentAttempt, body: m.CheckpointStart, database: Db
) -> m.Checkpoint:
    """Announce a checkpoint that was staged."""
    with database.write() as session:
        return checkpoint.start(session, identity, body)


@router.post("/checkpoints/{upload_id}/commit")
def commit_checkpoint(
    identity: CurrentAttempt, upload_id: str, body: m.CheckpointCommit, database: Db
) -> m.Checkpoint:
    """Publish a checkpoint, or say that it failed."""
    with database.write() as session:
        return checkpoint.commit(session, identity, upload_id, body)


@router.post("/parts")
def report_parts(
    identity: CurrentAttempt,
    body: m.PartsReport,
    database: Db,
    store: CurrentStore,
    settings: CurrentSettings,
    turn: StoreTurn,
) -> m.PartStates:
    """Say what a node of several has of checkpoints; those that are whole are joined."""
    with database.write() as session:
        whole = part.store(session, identity, body)
    for checkpoint_id in whole:
        part.join(database, store, settings, checkpoint_id)
    with database.read() as session:
        return part.states(session, identity, body)


@router.post("/round")
def advance_round(identity: CurrentAttempt, body: m.RoundReport, database: Db) -> m.RoundAnswer:
    """Say what the ranks of a node of several say while a notice is on; the round as it is."""
    with database.write() as session:
        return round.advance(session, identity, body)


@router.post("/finish", status_code=204)
def finish_attempt(
    identity: CurrentAttempt, body: m.AgentFinish, database: Db, request: Request
) -> None:
    """Say that the command has ended and everything it left is here."""
    if body.outcome == "exited" and body.exit_code is None:
        raise InvalidRequestError("An exit needs its exit_code.")
    with database.write() as session:
        if identity.is_late:
            attached.finish_late(session, identity)
        else:
            service.finish(session, identity, body)
    request.app.state.wake.set()
