"""The emergency round of an attempt on several nodes: its ranks' words in, the step to save at out.

The rule is the agents' own (:mod:`periflow_sdk._emergency`). The round is in the database before
any agent hears of it, so a server that is started again goes on with it.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

from periflow_sdk._emergency import RankWords, Round, abort, decide, open_round
from periflow_sdk.api import models as m
from periflow_server.db.attempt import Attempt, Node, nodes_of
from periflow_server.db.base import Session, utcnow
from periflow_server.services import attempt as attempts
from periflow_server.services.agent import GRACE_SECONDS
from periflow_server.services.token import AttemptIdentity

_LATE_RANKS_SECONDS = 3.0
_UNKNOWN_ROUND_TRIP_SECONDS = 0.2
_LAST_SECONDS = 1.0


def advance(session: Session, identity: AttemptIdentity, body: m.RoundReport) -> m.RoundAnswer:
    """Take what an agent says of its ranks, and go on with the round."""
    job, attempt, node = attempts.of_agent(session, identity)
    now = utcnow()
    if attempt.noticed_at is None:
        since = now - timedelta(seconds=body.notice_age_seconds)
        attempts.notice(session, job, attempt, since, None)
    node.words = body.model_dump(mode="json", exclude={"notice_age_seconds"})
    nodes = nodes_of(session, attempt.id)
    deadline = _deadline(attempt)
    current = _next(attempt, nodes, deadline, now)
    if current is not None:
        attempt.round = asdict(current)
    return m.RoundAnswer(
        round=m.RoundState.model_validate(asdict(current)) if current else None,
        seconds_left=max(0.0, (deadline - now).total_seconds()),
        takes_part=_takes_part(nodes),
    )


def _next(attempt: Attempt, nodes: list[Node], deadline: datetime, now: datetime) -> Round | None:
    """The round after this look; None while there is none yet."""
    ranks = [rank for node in nodes for rank in _ranks(node)]
    if attempt.round is not None:
        current: Round | None = Round(**attempt.round)
    else:
        current = _open(attempt, nodes, ranks, deadline, now)
    if current is None or current.phase != "open":
        return current
    if attempt.verdict is not None:
        return abort(current, "another node has failed")
    current = replace(current, deadline=deadline.timestamp())
    return decide(current, ranks, now.timestamp()).round


def _open(
    attempt: Attempt, nodes: list[Node], ranks: list[RankWords], deadline: datetime, now: datetime
) -> Round | None:
    """The round's beginning, once every node was heard and its ranks are there or late."""
    began = attempt.noticed_at or now
    patience = min(_LATE_RANKS_SECONDS, (deadline - began).total_seconds() / 4)
    is_late = (now - began).total_seconds() >= patience
    silent = [node for node in nodes if node.words is None]
    missing = [node for node in silent if node.outcome is not None]
    if silent:
        hopeless = Round(step=1, world_size=len(ranks) + 1, deadline=deadline.timestamp())
        if missing:
            return abort(hopeless, f"node {missing[0].rank} has ended already")
        if (deadline - now).total_seconds() <= _LAST_SECONDS:
            return abort(hopeless, f"node {silent[0].rank} was not heard of")
        return None
    if not _takes_part(nodes) or not (is_late or all(_is_complete(node) for node in nodes)):
        return None
    said = [node.words or {} for node in nodes]
    trips = [each["round_trip_seconds"] or _UNKNOWN_ROUND_TRIP_SECONDS for each in said]
    steps = [each["step_seconds"] for each in said if each["step_seconds"]]
    return open_round(
        ranks,
        world_size=len(ranks),
        deadline=deadline.timestamp(),
        step_seconds=min(steps, default=None),
        round_trip_seconds=max(trips),
    )


def _ranks(node: Node) -> list[RankWords]:
    """The words of a node's ranks; those of a node that has ended are not alive any more."""
    return [
        RankWords(
            started=rank["started"],
            finished=rank["finished"],
            acknowledged=rank["acknowledged"],
            waiting=rank["waiting"],
            is_done=rank["is_done"],
            is_alive=rank["is_alive"] and node.outcome is None,
            step_seconds=rank["step_seconds"],
        )
        for rank in (node.words or {}).get("ranks", [])
    ]


def _is_complete(node: Node) -> bool:
    words: dict[str, Any] = node.words or {"ranks": [], "expected": 0}
    return len(words["ranks"]) >= int(words["expected"])


def _takes_part(nodes: list[Node]) -> bool | None:
    """Whether some rank is between its first step and its end; None if that is not known yet."""
    ranks = [rank for node in nodes for rank in (node.words or {}).get("ranks", [])]
    if any(rank["has_begun"] and not rank["is_done"] and rank["is_alive"] for rank in ranks):
        return True
    return None if any(node.words is None and node.outcome is None for node in nodes) else False


def _deadline(attempt: Attempt) -> datetime:
    grace = timedelta(seconds=GRACE_SECONDS)
    return attempt.deadline_at or (attempt.noticed_at or utcnow()) + grace
