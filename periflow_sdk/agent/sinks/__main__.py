"""`python -m periflow_sdk.agent.sinks NAME NODE_DIR`: one sink, told of its service on stdin."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from periflow_sdk.agent.folder import NodeFolder, read_json, try_lock
from periflow_sdk.agent.kept import earlier_attempts
from periflow_sdk.agent.priority import NICENESS
from periflow_sdk.agent.sinks.loop import SinkLoop
from periflow_sdk.agent.sinks.memory import SinkMemory, sink_folder
from periflow_sdk.agent.sinks.sink import Sink


def main(arguments: list[str]) -> int:
    """Run a sink; 3 when it runs already."""
    parser = argparse.ArgumentParser(prog="python -m periflow_sdk.agent.sinks")
    parser.add_argument("name", choices=["wandb", "tensorboard"])
    parser.add_argument("folder", type=Path, metavar="NODE_DIR")
    options = parser.parse_args(arguments)
    folder = NodeFolder.open(options.folder)
    os.nice(NICENESS)
    logging.basicConfig(
        format=f"%(asctime)s {options.name}[%(process)d] %(levelname)s %(message)s",
        level=logging.INFO,
    )
    sink_folder(folder).mkdir(mode=0o700, exist_ok=True)
    lock = try_lock(sink_folder(folder) / f"{options.name}.lock")
    if lock is None:
        return 3
    os.pwrite(lock, f"{os.getpid():<20}".encode(), 0)
    SinkLoop(folder, options.name, _sink(options.name, folder)).run()
    return 0


def _sink(name: str, folder: NodeFolder) -> Sink:
    if name == "tensorboard":
        from periflow_sdk.agent.sinks.tensorboard import TensorboardSink

        return TensorboardSink(folder / "tensorboard")
    from periflow_sdk.agent.sinks.seclusion import seclude

    seclude(sink_folder(folder) / "private")
    access = json.load(sys.stdin)
    from periflow_sdk.agent.sinks.wandb import WandbAccess, WandbSink
    from periflow_sdk.api.models import Assignment

    assignment = Assignment.model_validate(read_json(folder / "assignment.json"))
    earlier = [SinkMemory.read(each, name).marks[-1:] for each in earlier_attempts(folder)]
    newest: dict[str, Any] = next((marks[0].state for marks in reversed(earlier) if marks), {})
    return WandbSink(sink_folder(folder) / "wandb", assignment, WandbAccess(**access), newest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
