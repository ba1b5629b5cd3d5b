"""The server is killed and started again: nothing is lost, nothing is there twice."""

from __future__ import annotations

from typing import Any

import pytest

from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import ConflictError, PeriFlowError


def metric(step: int) -> bytes:
    return b'{"t":"metric","s":%d,"w":%d,"m":{"loss":%d}}\n{"t":"step","s":%d,"w":1,"d":0}\n' % (
        step,
        step,
        step,
        step,
    )


def ship(api: Any, send: Any, data: bytes, offset: int) -> int:
    """Send as an agent does: where the server wants it, until it has it all."""
    while offset < len(data):
        try:
            offset = send(api, offset, data[offset : offset + 1500])
        except ConflictError as error:
            offset = error.data["offset"]
    return offset


def send_log(api: Any, offset: int, data: bytes) -> int:
    accepted: int = api.ship_log(offset, data)
    return accepted


def send_journal(api: Any, offset: int, data: bytes) -> int:
    accepted: int = api.ship_journal(0, "1-1", offset, data)
    return accepted


def test_journal_and_log_survive_kills_between_batches(own_desk: Any) -> None:
    desk = own_desk
    job, agent = desk.running()
    token = (agent.folder / "token").read_text()
    journal = [metric(step) for step in range(1, 401)]
    output = "".join(f"line {n} ü\n" for n in range(2000)).encode()
    for part in (1, 2, 3):
        with ApiClient(desk.server.url, token) as api:
            # From the start each time: as an agent that has lost its memory.
            ship(api, send_journal, b"".join(journal[: len(journal) * part // 3]), 0)
            ship(api, send_log, output[: len(output) * part // 3], 0)
        desk.server.restart()
        desk.reconnect()
    assert desk.series(job.number).steps == list(range(1, 401))
    assert desk.texts(job.number, limit=10_000) == output.decode().splitlines()
    assert desk.job(job.number).step == 400


def test_waiting_and_running_jobs_survive_a_kill(own_desk: Any) -> None:
    desk = own_desk
    running, agent = desk.running(num_devices=desk.quota())
    waiting = [desk.submit(num_devices=desk.quota()) for _ in range(2)]
    desk.server.restart()
    desk.reconnect()
    assert desk.job(running.number).status == "running"
    agent.api = ApiClient(desk.server.url, (agent.folder / "token").read_text())
    agent.beat(step=9)
    agent.finish()
    for job in waiting:
        desk.agent(job).finish()
    assert {desk.job(n).status for n in (1, 2, 3)} == {"success"}
    assert len(desk.job(running.number).attempts) == 1


def test_call_that_was_cut_by_a_kill_is_harmless_to_repeat(own_desk: Any) -> None:
    desk = own_desk
    job, agent = desk.running()
    snapshot = desk.snapshot()
    first = agent.checkpoint(5, snapshot)
    desk.server.restart()
    desk.reconnect()
    agent.api = ApiClient(desk.server.url, (agent.folder / "token").read_text())
    assert agent.checkpoint(5, snapshot).id == first.id
    agent.finish()
    desk.server.restart()
    desk.reconnect()
    agent.api = ApiClient(desk.server.url, (agent.folder / "token").read_text())
    with pytest.raises(PeriFlowError) as refused:
        agent.finish()
    assert refused.value.code == "attempt_superseded"
    assert desk.kinds(job.number).count("success") == 1
