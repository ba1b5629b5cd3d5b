"""What a run folder holds, on its way to the control plane under one token."""

from __future__ import annotations

import os
import threading
import time

from periflow_sdk.agent.folder import NodeFolder
from periflow_sdk.agent.patience import for_ever
from periflow_sdk.agent.reporter import Reporter
from periflow_sdk.agent.shipping import Shipper
from periflow_sdk.agent.state import StateFile
from periflow_sdk.agent.workers import WorkerProcess
from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.models import AgentFinish, AgentOrders
from periflow_sdk.errors import PeriFlowError


class CountingClient(ApiClient):
    """A client that knows how much it has sent: what was there already does not count."""

    journal_bytes = 0
    log_bytes = 0

    def ship_journal(self, rank: int, segment: str, offset: int, lines: bytes) -> int:
        """See ApiClient."""
        accepted = super().ship_journal(rank, segment, offset, lines)
        self.journal_bytes += accepted - offset
        return accepted

    def ship_log(self, offset: int, data: bytes) -> int:
        """See ApiClient."""
        accepted = super().ship_log(offset, data)
        self.log_bytes += accepted - offset
        return accepted


class Delivery:
    """Ships journal, output and checkpoints of a folder; ends when told, and when all is there.

    Args:
        memory: Its ``run_dir`` and ``phase`` are set; what is shipped is kept in it.
        token: A job token; it is also written to the folder, for the worker.
        worker: One that is at work already; a new one if None.

    Attributes:
        heard_at: When the control plane last answered, on the monotonic clock.
        is_superseded: The control plane takes nothing more under this token.
        stop_ordered: Somebody has asked for the run to stop.
    """

    def __init__(
        self,
        folder: NodeFolder,
        memory: StateFile,
        url: str,
        token: str,
        worker: WorkerProcess | None = None,
    ) -> None:
        self.heard_at = time.monotonic()
        self.is_superseded = False
        self.stop_ordered = False
        _write_token(folder, token)
        os.environ["PERIFLOW_URL"] = url
        os.environ["PERIFLOW_TOKEN_FILE"] = str(folder / "token")
        self._client = CountingClient(url, token, timeout_seconds=20, tries=1)
        self.reporter = Reporter(self._client, memory, self._obey)
        self._shipper = Shipper(self._client, folder, memory, self._supersede)
        self._worker = worker or WorkerProcess(folder)
        self._ending: threading.Thread | None = None
        self._is_over = False

    @property
    def client(self) -> CountingClient:
        """Speaks for the node."""
        return self._client

    def start(self) -> None:
        """Begin."""
        self._shipper.start()
        self.reporter.start()

    def tend(self) -> None:
        """Keep the worker alive. Call it often, always from the same thread."""
        self._worker.tend()

    def last_call(self) -> None:
        """Nothing more will be written."""
        self._shipper.last_call()

    def is_done(self) -> bool:
        """Whether everything has been accepted."""
        return self._shipper.is_done() and self._worker.is_complete()

    def finish(self, report: AgentFinish) -> bool:
        """Tell the end, in the background; True once it is told."""
        if self._ending is None:
            self._ending = threading.Thread(
                target=self._finish, args=(report,), name="ending", daemon=True
            )
            self._ending.start()
        return self._is_over

    def abandon(self) -> None:
        """Leave what has not been sent where it is."""
        self._shipper.abandon()
        self._worker.kill()

    def _finish(self, report: AgentFinish) -> None:
        self.reporter.finish()
        if not self.is_superseded:
            try:
                for_ever(lambda: self._client.finish_attempt(report))
            except PeriFlowError:
                self._supersede()
                return
            self._is_over = True

    def _obey(self, orders: AgentOrders) -> None:
        self.heard_at = time.monotonic()
        self.is_superseded |= orders.superseded
        self.stop_ordered |= orders.stop

    def _supersede(self) -> None:
        self.is_superseded = True


def _write_token(folder: NodeFolder, token: str) -> None:
    temporary = folder / ".token.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(token)
    temporary.replace(folder / "token")
