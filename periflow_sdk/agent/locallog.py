"""The metric log of a local run (``local_log_name``) as the journal of an attached job."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from periflow_sdk.agent.delivery import CountingClient
from periflow_sdk.agent.folder import read_json, write_json
from periflow_sdk.agent.sync import Synced
from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.models import AgentFinish, AttachedJobCreate
from periflow_sdk.errors import ConflictError, UsageError

_SEGMENT = "local-log"
_BATCH_BYTES = 1024 * 1024
_HEAD_BYTES = 4096
_RANK = re.compile(r"\.rank([1-9][0-9]{0,5})")


def sync_local_log(client: ApiClient, project: str, path: Path) -> Synced:
    """Send the metrics of a local run; a second time, only what was added since.

    The job is made at the first time and remembered in ``<file>.periflow.json``. Logs of other
    ranks, ``<file>.rank<R>``, are sent with it.

    Args:
        client: With the login of a member of the project.
        project: The id of the project that takes a log that has no job yet.

    Raises:
        UsageError: the file is not such a log.
        ConflictError: the file begins otherwise than the one that was sent before.
    """
    logs = {0: path, **_other_ranks(path)}
    memory = _memory(path, project, len(logs))
    grant = client.attach_job(memory["project_id"], _request(path, memory))
    agent = CountingClient(client.url, grant.token)
    with agent:
        for rank, log in logs.items():
            _ship(agent, rank, journal_of(log))
        agent.finish_attempt(AgentFinish(outcome="exited", exit_code=0))
    memory.update(job=grant.job.number, head=_head(path))
    write_json(_memory_path(path), memory)
    job = client.job(memory["project_id"], grant.job.number)
    return Synced(job, journal_bytes=agent.journal_bytes)


def journal_of(log: Path) -> Iterator[bytes]:
    """The lines of a log as journal lines; the same log gives the same lines, whenever asked."""
    with log.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return  # still being written, or torn
            if record := _record(line):
                yield record


def _record(line: bytes) -> bytes:
    try:
        values = json.loads(line)
        step, time = values.pop("step"), values.pop("time")
    except (ValueError, KeyError, AttributeError, TypeError):
        return b""
    metric = {"t": "metric", "s": step, "w": time, "m": values}
    finished = {"t": "step", "s": step, "w": time, "d": 0}
    return json.dumps(metric).encode() + b"\n" + json.dumps(finished).encode() + b"\n"


def _ship(agent: ApiClient, rank: int, lines: Iterator[bytes]) -> None:
    """Send from where the control plane has got to."""
    wanted, position = _next_offset(agent, rank), 0
    batch = b""
    for line in lines:
        position += len(line)
        if position > wanted:
            batch += line
        if len(batch) >= _BATCH_BYTES:
            wanted = agent.ship_journal(rank, _SEGMENT, wanted, batch)
            batch = b""
    if batch:
        agent.ship_journal(rank, _SEGMENT, wanted, batch)


def _next_offset(agent: ApiClient, rank: int) -> int:
    try:
        return agent.ship_journal(rank, _SEGMENT, 0, b"")
    except ConflictError as error:
        if "offset" not in error.data:
            raise
        return int(error.data["offset"])


def _memory(path: Path, project: str, ranks: int) -> dict[str, Any]:
    first = next(journal_of(path), None)
    if first is None:
        raise UsageError(
            f"{path} is neither the folder of a run nor a log that local_log_name wrote.",
            hint="pf job sync DIR_OR_FILE",
        )
    known = read_json(_memory_path(path))
    if known is None:
        made = {"version": 1, "run_id": os.urandom(16).hex(), "project_id": project, "ranks": ranks}
        # Before the job is made: an answer that is lost makes no second job.
        write_json(_memory_path(path), made)
        return made
    head = known.get("head")
    if head is not None and head != _head(path, head[0]):
        raise ConflictError(
            f"{path} is not the log that job {known.get('job')} has: it begins otherwise.",
            code="log_replaced",
            hint=f"To make a new job of it: rm {_memory_path(path)}",
        )
    return known


def _head(path: Path, size: int = _HEAD_BYTES) -> list[Any]:
    """How the file begins: so many bytes, and their hash."""
    with path.open("rb") as file:
        data = file.read(size)
    return [len(data), hashlib.sha256(data).hexdigest()]


def _memory_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.periflow.json")


def _other_ranks(path: Path) -> dict[int, Path]:
    found = {}
    for other in path.parent.iterdir():
        match = _RANK.fullmatch(other.name.removeprefix(path.name))
        if match and other.name.startswith(path.name) and other.is_file():
            found[int(match[1])] = other
    return dict(sorted(found.items()))


def _request(path: Path, memory: dict[str, Any]) -> AttachedJobCreate:
    return AttachedJobCreate(
        run_id=memory["run_id"],
        name=path.stem[:128] or "log",
        command=f"python  # {path.name}"[:4096],
        hostname=socket.gethostname(),
        num_ranks=memory["ranks"],
    )
