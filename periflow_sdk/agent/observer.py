"""What a node's machine does while a job runs: a thread that looks at it now and then.

It writes its own segments, ``system-<node>/`` in the run directory, which are shipped like those
of the ranks, as rank -1 - node.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from periflow_sdk.agent.gpu import Gpus
from periflow_sdk.agent.patience import Backoff, is_passing
from periflow_sdk.agent.progress import read_progress
from periflow_sdk.agent.system import node_system
from periflow_sdk.errors import PeriFlowError

if TYPE_CHECKING:
    import psutil

    from periflow_sdk.api.client import ApiClient
    from periflow_sdk.api.models import NodeSystem

_log = logging.getLogger(__name__)
_FIRST_SECONDS = 1.0
INTERVAL_SECONDS = 5.0


class Observer:
    """Describes the machine once, and measures the job's processes until told to stop.

    Args:
        processes: Gives the job's processes.
        python: The job's interpreter.
        variables: The environment to start it with.
        code: The folder whose git state is wanted, where no one else has told it.
        node: The node's rank.
    """

    def __init__(
        self,
        run_dir: Path,
        processes: Callable[[], list[psutil.Process]],
        *,
        python: str | None,
        variables: Mapping[str, str],
        code: Path | None = None,
        node: int = 0,
    ) -> None:
        self._run_dir = run_dir
        self._folder = run_dir / f"system-{node}"
        self._processes = processes
        self._python = python
        self._variables = variables
        self._code = code
        self._client: ApiClient | None = None
        self._cpu_seconds: dict[int, float] = {}
        self._sampled_at = time.monotonic()
        self._gpus = Gpus(None)
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._describe, name="description", daemon=True),
            threading.Thread(target=self._measure, name="observer", daemon=True),
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def report_to(self, client: ApiClient) -> None:
        """Tell the control plane what the machine is, as soon as it is known."""
        self._client = client

    def stop(self) -> None:
        """Measure nothing more."""
        self._stopped.set()

    def _describe(self) -> None:
        try:
            # The machine at once, for jobs that are over soon; then what its Python takes time for.
            for python in dict.fromkeys((None, self._python)):
                self._report(node_system(python, self._variables, self._code))
        except Exception:  # a machine that cannot be described still runs the job
            _log.exception("the system could not be described")

    def _report(self, system: NodeSystem) -> None:
        backoff = Backoff()
        while True:
            client = self._client
            try:
                if client is not None:
                    client.report_system(system)
                    return
            except PeriFlowError as error:
                if not is_passing(error):
                    _log.warning("the system is not reported: %s", error)
                    return
            backoff.pause()

    def _measure(self) -> None:
        try:
            self._gpus = Gpus.find()
            file = self._open()
        except OSError as error:
            _log.warning("the system is not measured: %s", error)
            return
        try:
            pause = _FIRST_SECONDS
            while not self._stopped.is_set():
                os.write(file, self._record())
                self._stopped.wait(pause)
                pause = INTERVAL_SECONDS
        except Exception:  # nor does one that cannot be measured
            _log.exception("the system is not measured any more")
        finally:
            os.close(file)

    def _open(self) -> int:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        path = self._folder / f"{time.time_ns():020d}-{os.getpid()}.jsonl"
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)

    def _record(self) -> bytes:
        step = max((words.started for words in read_progress(self._run_dir).values()), default=0)
        record = {"t": "metric", "s": step, "w": round(time.time(), 3), "m": self._sample()}
        return json.dumps(record).encode() + b"\n"

    def _sample(self) -> dict[str, float]:
        import psutil

        now = time.monotonic()
        used, memory, cpu = 0.0, 0, {}
        for process in self._processes():
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    memory += process.memory_info().rss
                cpu[process.pid] = times.user + times.system
            except psutil.Error:
                continue
            used += max(0.0, cpu[process.pid] - self._cpu_seconds.get(process.pid, 0.0))
        elapsed, self._sampled_at, self._cpu_seconds = now - self._sampled_at, now, cpu
        percent = 100 * used / elapsed if elapsed > 0.5 else 0.0
        return {
            "system/cpu_percent": round(percent, 1),
            "system/memory_bytes": memory,
            **self._gpus.sample(),
        }
