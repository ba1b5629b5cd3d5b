"""SIGTERM to a rank."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

import periflow_sdk as pf
from periflow_sdk import _control as word

if TYPE_CHECKING:
    from conftest import Run

LOOP = textwrap.dedent("""
    import time
    import periflow_sdk as pf
    pf.init()
    while not pf.should_stop():
        with pf.train_step():
            time.sleep(0.005)
    pf.finish()
""")


@pytest.fixture
def start(job: Run) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []

    def run(code: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=job.variables(), cwd=job.folder
        )
        processes.append(process)
        _until(lambda: _finished(job) > 2)
        return process

    yield run
    for process in processes:
        process.kill()
        process.wait()


def _finished(job: Run) -> int:
    path = job.run_dir / "rank-0" / "control"
    if not path.exists() or path.stat().st_size < word.SIZE:
        return 0
    return job.word("progress", word.FINISHED)


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_first_sigterm_is_reported_and_training_goes_on_until_the_save(
    job: Run, start: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    process = start(LOOP)
    process.terminate()
    _until(lambda: job.word("progress", word.NOTICE) > 0)
    assert abs(job.word("progress", word.NOTICE) / 1000 - time.time()) < 30
    step = job.word("progress", word.FINISHED) + 20
    job.tell(word.EMERGENCY, step)
    job.tell(word.COMMITTED, step)
    assert process.wait(90) == 0
    assert job.word("progress", word.FINISHED) == step


def test_sigterm_ends_a_rank_when_no_agent_answers(
    job: Run, start: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    process = start(LOOP)
    begin = time.monotonic()
    process.terminate()
    assert process.wait(90) == -signal.SIGTERM
    assert time.monotonic() - begin > 4


def test_second_sigterm_ends_a_rank(
    job: Run, start: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    process = start(LOOP)
    process.terminate()
    _until(lambda: job.word("progress", word.NOTICE) > 0)
    job.tell(word.EMERGENCY, 10**9)
    process.terminate()  # a launcher passes on the signal that the group has had
    at = job.word("progress", word.NOTICE) / 1000
    _until(lambda: time.time() - at > 2.1)
    assert process.poll() is None
    process.terminate()
    assert process.wait(90) == -signal.SIGTERM


@pytest.mark.parametrize("number", [word.STOP, word.ABORTS], ids=["stop", "abort"])
def test_sigterm_ends_a_rank_that_has_nothing_to_wait_for(
    job: Run, start: Callable[[str], subprocess.Popen[bytes]], number: int
) -> None:
    process = start(LOOP.replace("while not pf.should_stop()", "while True"))
    job.tell(number, 1)
    process.terminate()
    assert process.wait(90) == -signal.SIGTERM


def test_handler_of_the_script_is_called_as_ever(
    job: Run, start: Callable[[str], subprocess.Popen[bytes]]
) -> None:
    handler = "import signal, sys; signal.signal(signal.SIGTERM, lambda *a: sys.exit(42))\n"
    process = start(handler + LOOP)
    process.terminate()
    assert process.wait(90) == 42
    assert job.word("progress", word.NOTICE) > 0


def test_forked_worker_dies_of_the_first_sigterm(job: Run) -> None:
    code = """
        import multiprocessing, signal, time, periflow_sdk as pf
        pf.init()
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        worker.start()
        worker.terminate()
        worker.join(90)
        assert worker.exitcode == -signal.SIGTERM, worker.exitcode
        pf.finish()
    """
    job.script(textwrap.dedent(code))
    assert job.word("progress", word.NOTICE) == 0


def test_finish_puts_the_handler_back(job: Run) -> None:
    before = signal.getsignal(signal.SIGTERM)
    pf.init()
    assert signal.getsignal(signal.SIGTERM) != before
    pf.init()
    pf.finish()
    assert signal.getsignal(signal.SIGTERM) == before


def test_handler_installed_later_is_left_alone(job: Run) -> None:
    before = signal.getsignal(signal.SIGTERM)
    pf.init()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pf.finish()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    signal.signal(signal.SIGTERM, before)


def test_nothing_is_installed_outside_a_job(local: Run) -> None:
    before = signal.getsignal(signal.SIGTERM)
    pf.init()
    assert signal.getsignal(signal.SIGTERM) == before


def test_run_in_another_thread_goes_without(job: Run) -> None:
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=pf.init)
    thread.start()
    thread.join()
    assert pf.status().mode == "job" and signal.getsignal(signal.SIGTERM) == before


def test_ignored_sigterm_stays_ignored_and_is_reported(job: Run) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        pf.init()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert job.word("progress", word.NOTICE) > 0
    finally:
        pf.finish()
        signal.signal(signal.SIGTERM, before)
