"""One tool in a process of its own: ``python tool.py NAME calls|loop|kill|count FOLDER``.

Prints one JSON document. Runs in the tool's own virtual environment, so it imports nothing of
this folder but ``step``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Values = dict[str, float]
Call = Callable[[Values], Any]
KILLED_AFTER = 10_000


class Empty:
    """Nothing: the noise of the measurement."""

    calls = 10_000

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self) -> None:
        """Open the run."""

    def call(self, values: Values) -> None:
        """Log the values of one step."""

    def finish(self) -> None:
        """End the run."""

    def count(self) -> int | None:
        """How many of the values can be read back; None where the tool has no reader."""
        return None


class Write(Empty):
    """One os.write of a ready line: the limit."""

    LINE = b'{"t":"metric","s":12345,"w":1700000000.123,"m":{"loss":0.512345678,"lr":0.001}}\n'

    def start(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.file = os.open(self.folder / "log", flags)

    def call(self, values: Values) -> None:
        os.write(self.file, self.LINE)

    def count(self) -> int | None:
        return 2 * (self.folder / "log").read_bytes().count(b"\n")


class PeriFlow(Empty):
    """start_step, metric and end_step in a job."""

    def start(self) -> None:
        os.environ.update(PERIFLOW_ENABLED="1", PERIFLOW_RUN_DIR=str(self.folder))
        import periflow_sdk

        self.pf = periflow_sdk
        self.pf.init(total_train_steps=1_000_000)

    def call(self, values: Values) -> None:
        self.pf.start_step()
        self.pf.metric(values)
        self.pf.end_step()

    def finish(self) -> None:
        assert self.pf.status().lost_records == 0
        self.pf.finish()

    def count(self) -> int | None:
        records = [
            json.loads(line)
            for segment in (self.folder / "rank-0").glob("*.jsonl")
            for line in segment.read_bytes().splitlines()
        ]
        return sum(len(record["m"]) for record in records if record["t"] == "metric")


class WandB(Empty):
    """wandb, offline."""

    def start(self) -> None:
        os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true", WANDB_DIR=str(self.folder))
        import wandb

        self.run = wandb.init(project="bench")
        self.call = self.run.log

    def finish(self) -> None:
        self.run.finish()

    def count(self) -> int | None:
        from wandb.proto import wandb_internal_pb2

        (log,) = self.folder.glob("wandb/offline-*/*.wandb")
        found = 0
        for data in _leveldb_records(log.read_bytes()[7:]):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            names = [item.key or "/".join(item.nested_key) for item in record.history.item]
            found += sum(name in ("loss", "lr") for name in names)
        return found


class Trackio(Empty):
    """trackio, local."""

    def start(self) -> None:
        os.environ.update(TRACKIO_DIR=str(self.folder), HF_HUB_OFFLINE="1")
        import trackio

        self.trackio = trackio
        trackio.init(project="bench", name="run")
        self.call = trackio.log

    def finish(self) -> None:
        self.trackio.finish()

    def count(self) -> int | None:
        os.environ["TRACKIO_DIR"] = str(self.folder)
        from trackio.sqlite_storage import SQLiteStorage

        logs = SQLiteStorage.get_logs("bench", "run")
        return sum(("loss" in entry) + ("lr" in entry) for entry in logs)


class TensorBoard(Empty):
    """torch's SummaryWriter."""

    def start(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(self.folder))
        self.step = 0

    def call(self, values: Values) -> None:
        self.step += 1
        for name, value in values.items():
            self.writer.add_scalar(name, value, self.step)

    def finish(self) -> None:
        self.writer.close()

    def count(self) -> int | None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(self.folder), size_guidance={"scalars": 0})
        events.Reload()
        return sum(len(events.Scalars(tag)) for tag in events.Tags()["scalars"])


class SwanLab(Empty):
    """swanlab, offline."""

    def start(self) -> None:
        import swanlab

        self.swanlab = swanlab
        swanlab.init(project="bench", mode="offline", logdir=str(self.folder))
        self.call = swanlab.log

    def finish(self) -> None:
        self.swanlab.finish()


class Aim(Empty):
    """aim, in a local repository."""

    def start(self) -> None:
        from aim import Run

        self.run = Run(repo=str(self.folder), system_tracking_interval=None)
        self.step = 0

    def call(self, values: Values) -> None:
        self.step += 1
        for name, value in values.items():
            self.run.track(value, name=name, step=self.step)

    def finish(self) -> None:
        self.run.close()


class MLflow(Empty):
    """mlflow on SQLite, logging asynchronously."""

    calls = 1_000  # it works through the rest when it ends, 10 ms each

    def _open(self) -> Any:
        os.environ["GIT_PYTHON_REFRESH"] = "quiet"
        import mlflow

        mlflow.set_tracking_uri(f"sqlite:///{self.folder}/mlflow.db")
        return mlflow

    def start(self) -> None:
        self.mlflow = self._open()
        run = self.mlflow.start_run()
        (self.folder / "run").write_text(run.info.run_id)
        self.step = 0

    def call(self, values: Values) -> None:
        self.step += 1
        self.mlflow.log_metrics(values, step=self.step, synchronous=False)

    def finish(self) -> None:
        self.mlflow.flush_async_logging()
        self.mlflow.end_run()

    def count(self) -> int | None:
        client = self._open().MlflowClient()
        run = (self.folder / "run").read_text()
        return sum(len(client.get_metric_history(run, name)) for name in ("loss", "lr"))


TOOLS: dict[str, type[Empty]] = {
    "empty call": Empty,
    "os.write": Write,
    "periflow": PeriFlow,
    "trackio": Trackio,
    "wandb": WandB,
    "tensorboard": TensorBoard,
    "swanlab": SwanLab,
    "aim": Aim,
    "mlflow": MLflow,
}


def calls(tool: Empty) -> dict[str, float]:
    """Calls back to back, in microseconds, and the end of the run."""
    clock = time.perf_counter_ns
    taken = []
    for n in range(tool.calls):
        values = {"loss": 1 / (n + 3), "lr": 1e-3}
        start = clock()
        tool.call(values)
        taken.append((clock() - start) / 1000)
    start = clock()
    tool.finish()
    finish = (clock() - start) / 1e6
    taken.sort()
    return {
        "median us": taken[tool.calls // 2],
        "p99 us": taken[tool.calls * 99 // 100],
        "finish ms": finish,
    }


def loop(tool: Empty, blocks: int = 120, steps: int = 10) -> dict[str, float]:
    """A step of 1 ms with and without the call, in blocks that take turns."""
    from step import numpy_step, trimmed

    step = numpy_step()

    def block(call: Call) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            call({"loss": step(), "lr": 1e-3})
        return (time.perf_counter() - start) / steps

    empty = Empty(tool.folder).call
    times: dict[bool, list[float]] = {True: [], False: []}
    for n in range(blocks):
        for is_ours in (True, False) if n % 2 else (False, True):
            times[is_ours].append(block(tool.call if is_ours else empty))
    with_call, without = trimmed(times[True]), trimmed(times[False])
    return {"speed kept": without / with_call, "added us": (with_call - without) * 1e6}


def kill(tool: Empty) -> None:
    """Calls a millisecond apart; the process is killed when the last has returned."""
    for n in range(KILLED_AFTER):
        tool.call({"loss": 1 / (n + 3), "lr": 1e-3})
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGKILL)


def _leveldb_records(data: bytes) -> list[bytes]:
    """The records of a log in the format of LevelDB, up to where it was cut off."""
    records = []
    parts = b""
    position = 7  # of the file: its own header counts for the first block
    while position - 7 + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        header = data[position - 7 : position]
        size, kind = int.from_bytes(header[4:6], "little"), header[6]
        part = data[position : position + size]
        if len(part) < size:
            break
        parts = part if kind in (1, 2) else parts + part
        if kind in (1, 4):
            records.append(parts)
        position += 7 + size
    return records


def main(name: str, what: str, folder: Path) -> None:
    tool = TOOLS[name](folder)
    if what == "count":
        print(json.dumps({"kept": tool.count()}))
        return
    tool.start()
    if what == "kill":
        kill(tool)
    results = calls(tool) if what == "calls" else loop(tool)
    print(json.dumps(results), flush=True)
    os._exit(0)  # whatever the tool would still like to do


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
