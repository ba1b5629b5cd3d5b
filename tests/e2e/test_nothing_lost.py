"""Training, agent, worker and server die at random moments: no record is lost or comes twice.

A failure names its seed; ``PERIFLOW_TEST_SEED=N`` plays the same kills again.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from local_server import host

from periflow_sdk.api import models as m
from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.jobfile import JobSpec
from periflow_sdk.errors import PeriFlowError

SCRIPT = Path(__file__).parent / "killed_job/train.py"
STEPS = 100
VICTIMS = ("rank 0", "rank 1", "ranks", "agent", "worker", "server")
ROUND_SECONDS = 120
AT_ONCE = 2


class Site:
    """A stranger's server and project, for rounds that run at once and kill the server."""

    def __init__(self, stranger: Any) -> None:
        self.stranger = stranger
        self.project = stranger.project_id()
        # While it is held, nobody kills the server.
        self.peace = threading.RLock()

    def client(self) -> ApiClient:
        client: ApiClient = self.stranger.client()
        return client

    def kill_server(self) -> None:
        with self.peace, suppress(FileNotFoundError, psutil.NoSuchProcess):
            record = json.loads((self.stranger.home / "server/server.json").read_text())
            process = psutil.Process(record["pid"])
            process.kill()
            process.wait(ROUND_SECONDS)  # or who starts it again finds that it lives

    def start_server(self) -> None:
        """If it is dead; by the next command, which elsewhere than on Linux is all there is."""
        with self.peace:
            host(self.stranger.home, self.stranger.environment)
            self.stranger.try_pf("job", "list", "--limit", 1)

    def submit(self, command: str) -> m.Job:
        spec = JobSpec.model_validate(
            {
                "vm": "local-cpu",
                "num_devices": 1,
                "job_setting": {"docker": {"image": "none", "command": command}},
                "checkpoint": {"output_checkpoint_dir": "/ckpt"},
            }
        )
        with self.peace:
            self.start_server()
            with self.client() as client:
                return client.create_job(self.project, m.JobCreate(spec=spec))


@dataclass
class Kill:
    """After ``calls`` returned calls and ``delay`` seconds, all of the victims die at once."""

    calls: int
    delay: float
    victims: list[str]


def some_kills(rng: random.Random) -> list[Kill]:
    """One to three, in the order of their moments; some when the training is over already."""
    kills = [
        Kill(
            calls=rng.randrange(6 * STEPS + 1),
            delay=rng.choice([0, 0, rng.uniform(0, 1)]),
            victims=rng.sample(VICTIMS, rng.choice([1, 1, 2, 3])),
        )
        for _ in range(rng.randint(1, 3))
    ]
    return sorted(kills, key=lambda kill: kill.calls)


class Round:
    """One short job, its kills, and what must be true of it in the end."""

    def __init__(self, site: Site, seed: int) -> None:
        self.site = site
        self.kills = some_kills(random.Random(seed))
        self.side = site.stranger.folder / f"side-{seed}"
        self.side.mkdir()
        self.deadline = time.monotonic() + ROUND_SECONDS

    def play(self) -> None:
        self.job = self.site.submit(f"{sys.executable} {SCRIPT} {self.side} {STEPS}")
        for kill in self.kills:
            self._until(lambda kill=kill: self._returned() >= kill.calls or self._has_ended())
            time.sleep(kill.delay)
            for victim in kill.victims:
                self._kill(victim)
            if "server" in kill.victims:
                self.site.start_server()
        self._until(self._is_over)
        self._check()

    def _check(self) -> None:
        with self.site.peace, self.site.client() as client:
            job = client.job(self.site.project, self.job.number)
            assert len(job.attempts) == 1, job.events
            for rank in (0, 1):
                calls = self._letters(rank).count("m")
                if calls:
                    self._check_rank(client, rank, calls)
            finished = max(self._letters(rank).count("s") for rank in (0, 1))
            assert 0 <= (job.step or 0) - finished <= 1
            self._check_checkpoints(job)

    def _check_rank(self, client: ApiClient, rank: int, calls: int) -> None:
        series = client.metric_series(self.site.project, self.job.number, "call", rank=rank)
        count = len(series.values)
        assert 0 <= count - calls <= 1, f"rank {rank}: {calls} returned, {count} stored"
        assert series.values == [float(n) for n in range(count)], f"rank {rank}: out of order"
        assert series.steps == [n // 2 + 1 for n in range(count)]

    def _check_checkpoints(self, job: m.JobDetail) -> None:
        saved = self._letters(0).count("c")
        steps = sorted(each.step for each in job.checkpoints)
        assert steps[:saved] == [30 * (n + 1) for n in range(saved)]
        assert len(steps) - saved in (0, 1)
        if job.status == "success":
            assert [each.status for each in job.checkpoints] == ["ready"] * saved

    def _kill(self, victim: str) -> None:
        if victim == "server":
            self.site.kill_server()
            return
        for pid in self._pids(victim):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _pids(self, victim: str) -> list[int]:
        if "rank" in victim:
            names = ("pid-0", "pid-1") if victim == "ranks" else (f"pid-{victim[-1]}",)
            found = [
                int((self.side / n).read_text() or 0) for n in names if (self.side / n).exists()
            ]
            return [pid for pid in found if pid and self._is_ours(pid)]
        node = self.site.stranger.home / "server/jobs" / self.job.id / "1/0"
        try:
            agent = psutil.Process(json.loads((node / "agent.json").read_text())["pid"])
            if str(node) not in agent.cmdline():
                return []
            if victim == "agent":
                return [agent.pid]
            return [p.pid for p in agent.children(recursive=True) if "--worker" in p.cmdline()]
        except (OSError, ValueError, psutil.Error):
            return []

    def _is_ours(self, pid: int) -> bool:
        try:
            return str(self.side) in psutil.Process(pid).cmdline()
        except psutil.Error:
            return False

    def _letters(self, rank: int) -> str:
        path = self.side / f"rank-{rank}"
        return path.read_text() if path.exists() else ""

    def _returned(self) -> int:
        return len(self._letters(0)) + len(self._letters(1))

    def _has_ended(self) -> bool:
        """Whether its ranks have come and gone; a job whose agent never ran a command has none."""
        pids = self._pids("ranks")
        return (self.side / "pid-1").exists() and not pids

    def _is_over(self) -> bool:
        time.sleep(0.2)  # each look is a transaction of the server
        try:
            with self.site.client() as client:
                status = client.job(self.site.project, self.job.number).status
        except (PeriFlowError, OSError, ValueError):
            self.site.start_server()
            return False
        return status in ("success", "failed", "stopped")

    def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            assert time.monotonic() < self.deadline, "the job does not end"
            time.sleep(0.03)


def play_rounds(stranger: Any, count: int) -> None:
    site = Site(stranger)
    first = int(os.environ.get("PERIFLOW_TEST_SEED") or random.SystemRandom().randrange(10**6))

    def play(seed: int) -> None:
        one = Round(site, seed)
        try:
            one.play()
        except BaseException as error:
            raise AssertionError(f"PERIFLOW_TEST_SEED={seed}, {one.kills}: {error}") from error

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for played in [pool.submit(play, first + n) for n in range(count)]:
            played.result()


@pytest.mark.parametrize("half", [1, 2])
def test_no_record_is_lost_or_doubled_whoever_is_killed(stranger, half: int) -> None:
    play_rounds(stranger, 10)


def test_killed_run_without_a_server_arrives_when_the_server_is_back(stranger) -> None:
    site = Site(stranger)
    gate = stranger.folder / "gate"
    job = site.submit(f"{sys.executable} {SCRIPT.with_name('alone.py')} {gate}")
    stranger.wait_until((stranger.folder / "gate.waiting").exists)
    site.kill_server()
    gate.touch()
    node = stranger.home / "server/jobs" / job.id / "1/0"
    stranger.wait_until((node / "exit.json").exists)

    ended = stranger.wait_for_job(job.number)

    assert (ended["status"], ended["exit_code"], ended["step"]) == ("failed", 137, 10_000)
    with site.client() as client:
        loss = client.metric_series(site.project, job.number, "loss")
        lr = client.metric_series(site.project, job.number, "lr")
    assert loss.steps == lr.steps == list(range(1, 10_001))
    assert loss.values == [call + 0.5 for call in range(10_000)]
    assert lr.values == [1 / (call + 1) for call in range(10_000)]


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_no_record_is_lost_or_doubled_in_a_thousand_rounds(stranger) -> None:
    play_rounds(stranger, 1000)
