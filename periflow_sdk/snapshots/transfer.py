"""What upload and download share: workers, tries with back-off, and an end for all at once."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar
from urllib.parse import urljoin

from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.models import ChunkLocation
from periflow_sdk.api.size import shown_size
from periflow_sdk.errors import IntegrityError, PeriFlowError, ServerUnreachableError
from periflow_sdk.snapshots.buffer import BufferPool, Cancelled
from periflow_sdk.snapshots.progress import Progress, Silence
from periflow_sdk.snapshots.wire import TransferFault, Wire

Answer = TypeVar("Answer")
_REFUSALS = 3
_LONGEST_WAIT_SECONDS = 60.0
_GLANCE_SECONDS = 0.1
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@dataclass(frozen=True)
class Tuning:
    """How hard a transfer tries. Memory is bounded by ``buffers`` times 16 MiB.

    Args:
        workers: Chunks under way at once.
        readers: Chunks read and hashed at once, beside those under way.
        buffers: Chunks in memory at once.
        attempts: Tries for each chunk in all.
        server_attempts: The same for a question to the control plane that does not answer.
        corrupt_attempts: The same for a chunk that comes with the wrong bytes.
        stall_seconds: How long no byte may pass before a try is given up.
        backoff_seconds: Wait after the first failed try; doubles each time, up to 10 s.
        is_gentle: Others work on this machine: chunks for a store on it are written one at a
            time, past the page cache. What goes over a network waits more than it works, and
            is sent as ever.
    """

    workers: int = 4
    readers: int = 2
    buffers: int = 8
    attempts: int = 8
    server_attempts: int = 8
    corrupt_attempts: int = 3
    stall_seconds: float = 30.0
    backoff_seconds: float = 0.25
    is_gentle: bool = False


class Transfer:
    """One upload or download under way: threads that fail together.

    Readers are threads of their own: behind a queue of chunks to be sent, those to be read next
    would wait until a connection has nothing to do.
    """

    def __init__(
        self, client: ApiClient, project: str, progress: Progress | None, tuning: Tuning
    ) -> None:
        self.client = client
        self.project = project
        self.progress: Progress = progress or Silence()
        self.cancel = threading.Event()
        self.buffers = BufferPool(tuning.buffers, self.cancel)
        self.wire = Wire(tuning.stall_seconds, self.cancel)
        self._tuning = tuning
        self._workers = ThreadPoolExecutor(tuning.workers, thread_name_prefix="periflow-transfer")
        self._readers = ThreadPoolExecutor(tuning.readers, thread_name_prefix="periflow-read")
        self._under_way: set[Future[None]] = set()

    def __enter__(self) -> Transfer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.cancel.set()
            self.wire.cut()
        for pool in (self._readers, self._workers):
            pool.shutdown(wait=True, cancel_futures=True)
        self.wire.close()
        self.buffers.close()
        if kind is Cancelled:
            self._collect()

    @property
    def workers(self) -> int:
        return self._tuning.workers

    @property
    def is_gentle(self) -> bool:
        return self._tuning.is_gentle

    def run(self, work: Callable[[], None]) -> None:
        """Have a worker do this; raises what an earlier one has failed with."""
        self._submit(self._workers, work)

    def read(self, work: Callable[[], None]) -> None:
        """Have a reader do this; raises as `run`."""
        self._submit(self._readers, work)

    def join(self) -> None:
        """Wait until all is done; raises what the first failed one raised."""
        wait(self._under_way, return_when=FIRST_EXCEPTION)
        self._collect()

    def ask(self, question: Callable[[], Answer]) -> Answer:
        """What the control plane answers, asked again while it does not.

        Raises:
            Cancelled: the transfer has ended meanwhile; nobody waits for the answer then.
            ServerUnreachableError: it did not answer the last time either.
        """
        for number in range(self._tuning.server_attempts - 1):
            try:
                return self._answer(question)
            except ServerUnreachableError:
                self._pause(number)
        return self._answer(question)

    def _answer(self, question: Callable[[], Answer]) -> Answer:
        answer: Future[Answer] = Future()

        def put() -> None:
            try:
                answer.set_result(question())
            except BaseException as error:
                answer.set_exception(error)

        threading.Thread(target=put, name="periflow-question", daemon=True).start()
        while not wait([answer], _GLANCE_SECONDS).done:
            if self.cancel.is_set():
                raise Cancelled
        return answer.result()

    def attempt(self, chunk: str, work: Callable[[int], None]) -> None:
        """Do it, and again with growing waits for as long as that may help.

        Args:
            chunk: The hash, for the message.
            work: Gets the number of the try, from 0.

        Raises:
            PeriFlowError: the last try has failed too.
        """
        refusals = 0
        for number in range(self._tuning.attempts):
            try:
                work(number)
            except TransferFault as fault:
                # The first may have come of an address that was too old; later ones are fresh.
                refusals += fault.is_refusal
                tries = self._tuning.corrupt_attempts if fault.corrupt else self._tuning.attempts
                if fault.is_final or refusals >= _REFUSALS or number + 1 >= tries:
                    raise _given_up(chunk, number + 1, fault) from fault
                self._pause(number, min(fault.wait_seconds, _LONGEST_WAIT_SECONDS))
            else:
                return

    def _pause(self, number: int, least_seconds: float = 0.0) -> None:
        pause = min(self._tuning.backoff_seconds * 2**number, 10.0) * random.uniform(0.5, 1.0)
        if self.cancel.wait(max(pause, least_seconds)):
            raise Cancelled from None

    def url(self, location: ChunkLocation) -> str:
        """The chunk's address; the embedded server may name it without its own."""
        return urljoin(self.client.url + "/", location.url)

    def _submit(self, pool: ThreadPoolExecutor, work: Callable[[], None]) -> None:
        self._collect()
        self._under_way.add(pool.submit(self._guarded, work))

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException:
            self.cancel.set()
            raise

    def _collect(self) -> None:
        """Forget what is done; raise a real error rather than that others were cancelled by it."""
        done = {future for future in self._under_way if future.done()}
        if any(_fault(future) for future in done):
            wait(self._under_way)
            faults = [fault for future in self._under_way if (fault := _fault(future))]
            real = [fault for fault in faults if not isinstance(fault, Cancelled)]
            raise (real or faults)[0]
        self._under_way -= done


def _fault(future: Future[None]) -> BaseException | None:
    return None if future.cancelled() else future.exception()


def is_full(error: OSError) -> bool:
    """Whether the disk, a quota or a limit on file sizes refused to take more."""
    return error.errno in _FULL


def disk_full(folder: Path, needed: int) -> PeriFlowError:
    """The error for a disk that cannot take ``needed`` bytes more."""
    free = free_bytes(folder)
    return PeriFlowError(
        f"The disk of {folder} is full: {shown_size(needed)} needed, {shown_size(free)} free.",
        code="disk_full",
        hint=f"Make room there (`df -h {folder}`) or choose another folder, then run it again.",
        data={"needed": needed, "free": free, "folder": str(folder)},
    )


def free_bytes(folder: Path) -> int:
    """What this user may still write there."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def _given_up(chunk: str, tries: int, fault: TransferFault) -> PeriFlowError:
    if fault.corrupt:
        return IntegrityError(
            f"Chunk {chunk} came with other bytes than its hash promises, {tries} times.",
            hint="The stored copy is damaged: the administrator runs `pf-server admin storage check "
            "--remove-damaged`; then upload the files again.",
            data={"chunk": chunk},
        )
    data = {"chunk": chunk, "status": fault.status, "store_code": fault.code}
    if fault.code == "expired":
        return PeriFlowError(
            "The store takes even new addresses for old ones: the clocks of the server and of its "
            "store differ.",
            code="store_clock",
            hint="The administrator sets the server's clock; then run the same command again.",
            data=data,
        )
    if fault.is_refusal:
        word = f" ({fault.code})" if fault.code else ""
        return PeriFlowError(
            f"The store refuses what the server has signed{word}: its key may be revoked.",
            code="store_refused",
            hint="The administrator checks it by `pf-server admin storage check`; then run the "
            "same command again.",
            data=data,
        )
    return PeriFlowError(
        f"Chunk {chunk[:12]} could not be transferred in {tries} tries: {fault}",
        code="transfer_failed",
        hint="Run the same command again: it goes on where it stopped.",
        data=data,
    )
