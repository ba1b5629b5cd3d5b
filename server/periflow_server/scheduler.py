"""The thread that gives devices to waiting jobs and looks after the agents of running ones."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from periflow_server.db.attempt import (
    Attempt,
    Node,
    ended_nodes,
    ending_attempts,
    live_nodes,
    lost_nodes,
    nodes_of,
)
from periflow_server.db.base import Database, Session, lock
from periflow_server.db.event import add_event
from periflow_server.db.job import Job
from periflow_server.embedded import load_site
from periflow_server.executors.local import LocalExecutor, prepare_node
from periflow_server.executors.manual import ManualExecutor
from periflow_server.services import attempt as attempts
from periflow_server.services import gang, queue
from periflow_server.services.vm import shapes
from periflow_server.settings import Settings
from periflow_server.storage.store import Store

POLL_SECONDS = 0.5
LEASE_SECONDS = 90.0
"""An agent that lives and has not been heard of for so long hangs, and is replaced."""
ENDING_SECONDS = 60.0
"""Nodes of an attempt that has failed on another one get so long to send what they have."""
MOST_STARTS = 6
"""An agent that never came to run its command in so many starts does not come."""
_LONGEST_PAUSE_SECONDS = 5.0

logger = logging.getLogger("periflow_server")


class Executor(Protocol):
    """Starts and ends gangs of agents, each agent known by its node folder."""

    def start(self, gang: Sequence[Path]) -> None: ...
    def poll(self, gang: Iterable[Path]) -> set[Path]: ...
    def stop(self, gang: Iterable[Path], *, keep_training: bool = False) -> None: ...
    def clear(self, gang: Iterable[Path]) -> None: ...


class Scheduler:
    """Runs from the server's start to its end; :attr:`wake` makes it look at once.

    Time is counted on the monotonic clock from the server's own start: neither a sleeping machine
    nor a server that was away takes an agent for lost.

    Args:
        executor: Runs the gangs; the one the settings name if None.
    """

    def __init__(
        self,
        database: Database,
        store: Store,
        settings: Settings,
        executor: Executor | None = None,
    ) -> None:
        self.wake = threading.Event()
        self._database = database
        self._jobs_dir = settings.data_dir.absolute() / "jobs"
        self._executor = executor or _executor(settings)
        self._foreign_lease_seconds = settings.foreign_lease_seconds
        self._closing = False
        self._site = site_of(database, settings)
        self._thread = threading.Thread(target=self._run, name="scheduler", daemon=True)
        self._heard: dict[str, tuple[datetime | None, float]] = {}
        self._not_before: dict[str, float] = {}
        self._ending: dict[str, float] = {}
        self._failures: dict[str, str] = {}

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; agents go on."""
        self._closing = True
        self.wake.set()
        self._thread.join(timeout=10)

    def _run(self) -> None:
        shapes()  # asks for GPUs, once, while no transaction waits for the answer
        self._try(self._end_lost)
        while not self._closing:
            self.wake.clear()
            # Apart: a disk too full for a new attempt must not keep running ones unwatched.
            self._try(self._place)
            self._try(self._watch)
            self._try(self._end_failed)
            self.wake.wait(POLL_SECONDS)

    def _end_lost(self) -> None:
        """End what attempts that were given up still run: the server may have died in between."""
        with self._database.read() as session:
            lost = [self._jobs_dir / node.folder for node in lost_nodes(session, self._site)]
            ended = [self._jobs_dir / node.folder for node in ended_nodes(session, self._site)]
        self._executor.stop(lost)
        self._executor.clear(ended)

    def _try(self, work: Callable[[], None]) -> None:
        """Do one part of a round; a failure is logged once, not at every round."""
        name = work.__name__
        try:
            work()
        except Exception as error:
            if self._failures.get(name) != repr(error):
                logger.exception("The scheduler failed to %s; it goes on", name.strip("_"))
            self._failures[name] = repr(error)
        else:
            self._failures.pop(name, None)

    def _place(self) -> None:
        with self._database.read() as session:
            if not queue.has_waiting(session):
                return
        with self._database.write() as session:
            for placement in queue.place(session, self._site):
                # The folder comes first: an attempt that is committed can always be started.
                for node, token in placement.nodes:
                    prepare_node(self._jobs_dir / node.folder, token)

    def _watch(self) -> None:
        with self._database.read() as session:
            live = [node for node, _ in live_nodes(session)]
        nodes = [node for node in live if self._is_ours(node)]
        folders = {self._jobs_dir / node.folder: node for node in nodes}
        gone = self._executor.poll(folders)
        for folder, node in folders.items():
            if folder in gone:
                try:
                    self._restart(folder, node)
                except OSError:
                    logger.exception("The agent in %s could not be restarted", folder)
            elif self._is_silent(node):
                logger.warning("The agent in %s hangs; it is replaced", folder)
                self._executor.stop([folder], keep_training=True)
        for node in live:
            if not self._is_ours(node) and self._is_silent(node):
                self._lose(node)
        self._forget({node.id for node in live})

    def _is_ours(self, node: Node) -> bool:
        """Whether our executor looks after the agent, not another server or its own user."""
        return bool(node.folder) and node.site == self._site

    def _end_failed(self) -> None:
        """End attempts of which a node has failed, and other nodes take too long to end."""
        with self._database.read() as session:
            ending = {attempt.id for attempt in ending_attempts(session)}
        now = time.monotonic()
        self._ending = {each: self._ending.get(each, now) for each in ending}
        for attempt_id, since in self._ending.items():
            if now - since >= ENDING_SECONDS:
                self._end_at_once(attempt_id)

    def _end_at_once(self, attempt_id: str) -> None:
        with self._database.write() as session:
            nodes = nodes_of(session, attempt_id)
            folders = [self._jobs_dir / node.folder for node in nodes if self._is_ours(node)]
            job, attempt = self._held(session, nodes[0])
            if attempt.status in attempts.LIVE:
                gang.settle(session, job, attempt, at_once=True)
        self._executor.stop(folders)
        self.wake.set()

    def _lose(self, node: Node) -> None:
        with self._database.write() as session:
            job, attempt = self._held(session, node)
            if attempt.status in attempts.LIVE:
                reason = f"the agent on {node.hostname} was not heard of any more"
                attempts.lose(session, job, attempt, "node-lost", reason)

    def _restart(self, folder: Path, node: Node) -> None:
        """Start the agent of a node, or give the node up."""
        now = time.monotonic()
        if now < self._not_before.get(node.id, 0.0):
            return
        with self._database.write() as session:
            job, attempt = self._held(session, node)
            current = session.get_one(Node, node.id)
            if attempt.status not in attempts.LIVE or current.outcome is not None:
                return
            lost = current.starts >= MOST_STARTS
            if lost:
                self._give_up(session, job, attempt, current)
            else:
                self._note_start(session, attempt, current, now)
        if lost:
            self._executor.stop([folder])
            self.wake.set()
        else:
            self._start(folder)

    def _held(self, session: Session, node: Node) -> tuple[Job, Attempt]:
        """The job and the attempt of a node, which nobody else changes until the end."""
        job_id = session.get_one(Attempt, node.attempt_id).job_id
        job = lock(session, session.get_one(Job, job_id))
        return job, session.get_one(Attempt, node.attempt_id, populate_existing=True)

    def _give_up(self, session: Session, job: Job, attempt: Attempt, node: Node) -> None:
        reason = f"the agent of node {node.rank} ended {MOST_STARTS} times without a word"
        if len(nodes_of(session, attempt.id)) > 1:
            gang.lose_node(session, job, attempt, node, reason)
        else:
            attempts.lose(session, job, attempt, "node-lost", reason)

    def _note_start(self, session: Session, attempt: Attempt, node: Node, now: float) -> None:
        if node.registered_at is not None:
            message = f"The agent of node {node.rank} was gone; it is started again."
            add_event(session, attempt.job_id, "warning", message, attempt=attempt.number)
        node.starts += 1
        pause = min(0.05 * 2**node.starts, _LONGEST_PAUSE_SECONDS)
        self._not_before[node.id] = now + pause
        self._heard[node.id] = (node.heartbeat_at, now)

    def _start(self, folder: Path) -> None:
        try:
            self._executor.start([folder])
        except OSError:
            logger.exception("The agent in %s could not be started", folder)

    def _is_silent(self, node: Node) -> bool:
        now = time.monotonic()
        last, since = self._heard.get(node.id, (None, now))
        if node.id not in self._heard or last != node.heartbeat_at:
            self._heard[node.id] = (node.heartbeat_at, now)
            return False
        # What a user or another server has to start again gets longer.
        lease = LEASE_SECONDS if self._is_ours(node) else self._foreign_lease_seconds
        if now - since < lease:
            return False
        self._heard[node.id] = (node.heartbeat_at, now)
        return True

    def _forget(self, known: set[str]) -> None:
        for memory in (self._heard, self._not_before):
            for node_id in memory.keys() - known:
                memory.pop(node_id, None)


def site_of(database: Database, settings: Settings) -> str:
    """The name by which nodes remember the server whose executor started them."""
    return "" if database.is_sqlite else load_site(settings.data_dir.absolute())


def _executor(settings: Settings) -> Executor:
    if settings.executor == "none":
        return ManualExecutor()
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::", "") else settings.host
    key_file = settings.data_dir.absolute() / "key" if settings.embedded else None
    url = settings.public_url or f"http://{host}:{settings.port}"
    return LocalExecutor(url, key_file=key_file)
