"""Jobs on two servers with one PostgreSQL: placed once, moved by either, lost by none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.errors import ConflictError, PeriFlowError
from periflow_server.db.attempt import Attempt, Node
from periflow_server.db.base import Database
from periflow_server.db.schema import import_tables
from periflow_server.executors.manual import ManualExecutor
from periflow_server.scheduler import Scheduler
from periflow_server.settings import Settings
from periflow_server.storage.folder import FolderStore

if TYPE_CHECKING:
    from conftest import ServerProcess

pytestmark = pytest.mark.postgresql


@pytest.fixture
def desks(pair: Any, desk_at: Callable[..., Any]) -> Iterator[list[Any]]:
    """One user's desks at both servers."""
    found = [desk_at(*both) for both in zip(pair.servers, pair.clients, strict=True)]
    yield found
    found[0].clear()


def token_of(servers: list[ServerProcess], job: m.Job, attempt: int = 1) -> str | None:
    """The job token, in the folder of the server that placed the attempt."""
    for server in servers:
        path = server.data_dir / "jobs" / job.id / str(attempt) / "0" / "token"
        if path.exists():
            return path.read_text()
    return None


def rows(url: str) -> list[tuple[Attempt, Node]]:
    import_tables()
    database = Database(url)
    with database.read() as session:
        query = select(Attempt, Node).join(Node, Node.attempt_id == Attempt.id)
        found = [(row[0], row[1]) for row in session.execute(query)]
    database.close()
    return found


def test_jobs_submitted_to_both_at_once_are_numbered_and_placed_once(
    pair: Any, desks: list[Any]
) -> None:
    jobs = pair.at_once(lambda client, n: desks[client is pair.clients[1]].submit(), 12)
    assert sorted(job.number for job in jobs) == list(range(1, 13))
    for job in sorted(jobs, key=lambda job: job.number):
        token = desks[0].wait_for(lambda job=job: token_of(pair.servers, job))
        # Its agent talks to either server, by turns.
        for turn in (0, 1):
            with ApiClient(pair.servers[turn].url, token) as api:
                api.heartbeat(m.AgentHeartbeat(phase="running", step=turn + 1))
        with ApiClient(pair.servers[job.number % 2].url, token) as api:
            api.finish_attempt(m.AgentFinish(outcome="exited", exit_code=0))
    for job in jobs:
        kinds = desks[1].kinds(job.number)
        assert kinds.count("allocating") == kinds.count("success") == 1
        assert desks[0].job(job.number).step == 2
    assert_devices_were_given_to_one_at_a_time(pair.servers[0].database_url, {j.id for j in jobs})


def assert_devices_were_given_to_one_at_a_time(url: str, jobs: set[str]) -> None:
    held: dict[int, list[tuple[Any, Any]]] = {}
    for attempt, node in rows(url):
        if attempt.job_id in jobs:
            for device in node.devices:
                held.setdefault(device, []).append((attempt.created_at, attempt.finished_at))
    assert held
    for spans in held.values():
        spans.sort()
        for (_, end), (start, _) in pairwise(spans):
            assert end <= start


def test_job_that_is_stopped_while_it_gets_its_devices_does_not_run(
    pair: Any, desks: list[Any]
) -> None:
    for number in range(1, 16):
        job = desks[0].submit()
        desks[number % 2].api.stop_job(desks[0].project, job.number)
    for number in range(1, 16):
        detail = desks[1].job(number)
        assert detail.status == ("stopping" if detail.attempts else "stopped")
        kinds = desks[1].kinds(number)
        assert ("allocating" in kinds) == bool(detail.attempts)


def test_both_servers_take_a_journal_and_a_log_once(pair: Any, desks: list[Any]) -> None:
    job = desks[0].submit()
    token = desks[0].wait_for(lambda: token_of(pair.servers, job))
    steps = 200
    lines = [b'{"t":"metric","s":%d,"w":%d,"m":{"loss":%d}}\n' % (s, s, s) for s in range(steps)]
    printed = b"".join(b"line %d\n" % number for number in range(20_000))

    def send(index: int, data: bytes, ship: Callable[[ApiClient, int, bytes], int]) -> None:
        with ApiClient(pair.servers[index].url, token) as api:
            offset = 0
            while offset < len(data):
                try:
                    offset = ship(api, offset, data[offset : offset + 30_000])
                except ConflictError as error:
                    offset = error.data["offset"]

    def journal(api: ApiClient, offset: int, piece: bytes) -> int:
        return api.ship_journal(0, "1-1", offset, piece[:700])

    def log(api: ApiClient, offset: int, piece: bytes) -> int:
        return api.ship_log(offset, piece)

    work = [(0, b"".join(lines), journal), (1, b"".join(lines), journal)]
    work += [(0, printed, log), (1, printed, log)]
    threads = [threading.Thread(target=send, args=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert desks[1].series(job.number).steps == list(range(steps))
    texts: list[str] = []
    cursor: str | None = None
    while len(texts) < 20_000:
        page = desks[0].log(job.number, cursor=cursor, limit=10_000)
        assert page.lines
        texts += [line.text for line in page.lines]
        cursor = page.cursor
    assert texts == printed.decode().splitlines()


def test_job_goes_on_at_the_other_server_when_the_one_that_placed_it_dies(
    start_server: Callable[..., ServerProcess],
    production: dict[str, str],
    desk_at: Callable[..., Any],
) -> None:
    first = start_server("one", is_embedded=False, **production)
    desk = desk_at(first, first.client())
    running = desk.submit(num_devices=desk.quota())
    waiting = desk.submit()
    token = desk.wait_for(lambda: token_of([first], running))
    second = start_server("two", is_embedded=False, **production)
    other = desk_at(second, desk.api.at(second))
    first.kill()
    with ApiClient(second.url, token) as api:
        api.heartbeat(m.AgentHeartbeat(phase="running", step=3))
        api.finish_attempt(m.AgentFinish(outcome="exited", exit_code=0))
    other.agent(waiting).finish()
    assert [other.job(n).status for n in (1, 2)] == ["success", "success"]
    assert len(other.job(1).attempts) == 1


def test_job_of_a_server_that_is_gone_with_its_agents_waits_for_another(
    pair: Any, desks: list[Any], tmp_path: Path
) -> None:
    """Nobody can start the agents of another server; after a while its nodes are lost."""
    job = desks[0].submit(restart={"backoff_seconds": 0})
    desks[0].wait_for(lambda: token_of(pair.servers, job))
    import_tables()
    database = Database(pair.servers[0].database_url)
    settings = Settings(data_dir=tmp_path / "third", foreign_lease_seconds=0.1)
    third = Scheduler(database, FolderStore(tmp_path / "store"), settings, ManualExecutor())
    third.start()
    try:
        desks[0].wait_for(lambda: len(desks[0].job(job.number).attempts) > 1)
    finally:
        third.stop()
        database.close()
    assert desks[0].job(job.number).attempts[0].status == "node-lost"


def test_agents_of_two_servers_that_end_at_once_end_the_job_once(
    pair: Any, desks: list[Any]
) -> None:
    job = desks[0].submit()
    token = desks[0].wait_for(lambda: token_of(pair.servers, job))

    def finish(client: Any, number: int) -> None:
        with ApiClient(client.url, token) as api:
            code = number % 3
            api.finish_attempt(m.AgentFinish(outcome="exited", exit_code=code))

    answers = pair.at_once(finish, 8)
    assert answers.count(None) == 1
    refused = {answer.code for answer in answers if isinstance(answer, PeriFlowError)}
    assert refused == {"attempt_superseded"}
    kinds = desks[1].kinds(job.number)
    assert kinds.count("success") + kinds.count("failed") == 1
