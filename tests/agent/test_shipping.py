"""What is shipped when the disk or the answers are in trouble. The control plane is a stand-in."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from periflow_sdk.agent.folder import NodeFolder
from periflow_sdk.agent.shipping import Shipper
from periflow_sdk.agent.state import StateFile


class FailingOnce:
    """Takes a log, but fails once with an error that nobody expects."""

    def __init__(self, error: Exception) -> None:
        self.taken = b""
        self._error: Exception | None = error

    def ship_log(self, offset: int, data: bytes) -> int:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        assert offset == len(self.taken)
        self.taken += data
        return len(self.taken)


@pytest.mark.parametrize("error", [ValueError("a strange answer"), OSError(28, "disk full")])
def test_log_is_shipped_whole_in_spite_of_an_error_in_between(
    tmp_path: Path, error: Exception
) -> None:
    folder = NodeFolder.open(tmp_path)
    memory = StateFile(tmp_path / "state.json")
    memory.state.run_dir = str(tmp_path / "run")
    folder.output.write_bytes(b"line\n" * 1000)
    client = FailingOnce(error)
    superseded = threading.Event()
    shipper = Shipper(client, folder, memory, superseded.set)  # type: ignore[arg-type]
    shipper.start()
    shipper.last_call()
    shipper._thread.join(90)
    assert shipper.is_done() and not superseded.is_set()
    assert client.taken == b"line\n" * 1000
