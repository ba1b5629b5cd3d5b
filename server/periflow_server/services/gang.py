"""How an attempt on several nodes ends: with its last node, or soon after the first bad one.

The first node that ends badly gives the verdict on the attempt. The other nodes hear of it with
their next heartbeat, end their command, and send what they have; then the attempt ends.
"""

from __future__ import annotations

from typing import Any, cast

from periflow_sdk.api import models as m
from periflow_server.db.attempt import Attempt, Node, lock_attempt, nodes_of
from periflow_server.db.base import Session
from periflow_server.db.event import add_event
from periflow_server.db.job import Job
from periflow_server.services import attempt as attempts
from periflow_server.services import part


def finish_node(
    session: Session, job: Job, attempt: Attempt, node: Node, body: m.AgentFinish
) -> None:
    """The command of one node has ended; ``node.outcome`` says how."""
    lock_attempt(session, attempt.id)
    node.reason = (body.reason or "").rstrip(".") or None
    if attempt.verdict is None and (verdict := _verdict(attempt, node)):
        if verdict["status"] == "failed":
            job.log_tail = [line[:4096] for line in body.log_tail[-attempts.LOG_TAIL_LINES :]]
        _end_on_others(session, job, attempt, verdict)
    settle(session, job, attempt)


def lose_node(session: Session, job: Job, attempt: Attempt, node: Node, reason: str) -> None:
    """A node does not come back."""
    node.outcome, node.reason = "lost", reason
    if attempt.verdict is None:
        verdict = {"status": "node-lost", "reason": reason, "exit_code": None}
        _end_on_others(session, job, attempt, verdict)
    settle(session, job, attempt)


def settle(session: Session, job: Job, attempt: Attempt, *, at_once: bool = False) -> None:
    """End the attempt if all its nodes have ended.

    Args:
        at_once: Wait for no node any more; there is a verdict.
    """
    gang = nodes_of(session, attempt.id)
    if not at_once and any(node.outcome is None for node in gang):
        return
    part.give_up(session, attempt)
    verdict = attempt.verdict or _common_end(gang)
    status, reason, exit_code = verdict["status"], verdict["reason"], verdict["exit_code"]
    if status == "failed":
        attempts.fail(session, job, attempt, reason, exit_code)
    elif status == "stopped":
        attempts.stop(session, job, attempt, exit_code)
    elif status == "success":
        attempts.succeed(session, job, attempt)
    else:
        attempts.lose(session, job, attempt, cast(attempts.Lost, status), reason, exit_code)


def _verdict(attempt: Attempt, node: Node) -> dict[str, Any] | None:
    """What a node's end means for the whole attempt; None where the others go on.

    A node that was preempted without a notice to all (it exited with 75, say) ends all.
    """
    if node.outcome == "lost":
        status, reason = "node-lost", node.reason or "it was lost"
    elif node.outcome == "error" or (node.outcome == "exited" and node.exit_code != 0):
        status = "failed"
        code = node.exit_code
        unknown = "the end of the command is unknown"
        reason = node.reason or (unknown if code is None else attempts.exit_reason(code))
    elif node.outcome == "preempted" and attempt.noticed_at is None:
        status, reason = "preempted", node.reason or "it was taken"
    else:
        return None
    return {
        "status": status,
        "reason": f"node {node.rank}: {reason}",
        "exit_code": node.exit_code,
    }


def _end_on_others(session: Session, job: Job, attempt: Attempt, verdict: dict[str, Any]) -> None:
    attempt.verdict = verdict
    reason = verdict["reason"]
    message = f"{reason[:1].upper()}{reason[1:]}. The attempt ends on the other nodes."
    add_event(session, job.id, "warning", message, attempt=attempt.number)


def _common_end(gang: list[Node]) -> dict[str, Any]:
    """How an attempt ended of which no node ended badly."""
    exit_code = next((node.exit_code for node in gang if node.exit_code), gang[0].exit_code)
    outcomes = {node.outcome for node in gang}
    status = "success"
    if "preempted" in outcomes:
        status = "preempted"
    elif "stopped" in outcomes:
        status = "stopped"
    taken = [node for node in gang if node.outcome == "preempted"]
    reasons = list(dict.fromkeys(node.reason or "its node was taken" for node in taken))
    if len(reasons) > 1:
        reasons = [f"node {node.rank}: {node.reason or 'it was taken'}" for node in taken]
    return {"status": status, "reason": "; ".join(reasons), "exit_code": exit_code}
