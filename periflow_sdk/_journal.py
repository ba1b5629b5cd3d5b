"""What a run records: the journal of a rank in a job, the metric log outside one."""

from __future__ import annotations

import errno
import os
import time

from ._append_file import AppendFile
from ._mapped_file import MappedFile
from ._metric_log import MetricLog, Templates
from ._values import encode_string
from .errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ._staging import StagedFile
    from .environment import JobEnvironment

SEGMENT_BYTES = 64 * 1024 * 1024
LONGEST_RECORD = 15 * 1024 * 1024  # bytes; what reads the journal takes lines of up to 16 MiB
_STEP = '{"t":"step","s":%d,"w":%de-3,"d":%de-6}\n'
_METRIC = '{"t":"metric","s":%d,"w":%de-3,"m":{'
_STEP_BYTES = _STEP.encode()
_now = time.time
_now_ns = time.time_ns


class Journal(MetricLog):
    """The records of one process of one rank, in segments that the agent ships.

    Args:
        folder: ``rank-<R>`` in the run directory.
        rank: The rank of this process.
        segment_bytes: The size after which a new segment is opened.
    """

    def __init__(
        self,
        folder: Path,
        rank: int,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._folder = folder
        self._rank = rank
        self.file = MappedFile(self._open_segment, segment_bytes)
        super().__init__(_METRIC, "}}\n", self.file.append)
        self._step_templates = Templates(_STEP + _METRIC, "}}\n")

    def step(self, step: int, nanoseconds: int) -> None:
        """Record that a step is finished, and how long it took."""
        if self.late.waiting or self.held:
            self.drain()
        milliseconds, microseconds = _now_ns() // 1_000_000, nanoseconds // 1000
        self.file.append(_STEP_BYTES % (step, milliseconds, microseconds))

    def _step_line(
        self,
        step: int,
        milliseconds: int,
        nanoseconds: int,
        names: Iterable[str],
        values: list[float],
    ) -> bytes:
        head = (step, milliseconds, nanoseconds // 1000)
        if not values:
            return _STEP_BYTES % head
        return self._step_templates[(*names,)] % (*head, step, milliseconds, *values)

    def init(
        self,
        step: int,
        total_steps: int,
        environment: JobEnvironment,
        *,
        is_restart: bool = False,
    ) -> None:
        """Record how the process starts.

        Args:
            is_restart: It does again what came after ``step``, as a process before it was ended.
        """
        from . import __version__

        self._record(
            "init",
            step,
            f',"total":{total_steps},"world_size":{environment.world_size}'
            f',"node_rank":{environment.node_rank}'
            f',"local_world_size":{environment.local_world_size}'
            f',"sdk":{encode_string(__version__)}' + (',"restart":true' if is_restart else ""),
        )

    def config(self, step: int, text: str) -> None:
        """Record hyperparameters, given as a JSON object."""
        self._record("config", step, f',"config":{text}')

    def checkpoint(
        self,
        step: int,
        upload_id: str,
        save_type: str,
        base: str,
        files: list[StagedFile],
        memory: int = 0,
    ) -> bool:
        """Record that a checkpoint is staged, in memory if it has a number there.

        Returns:
            False if the record is lost.
        """
        rest = f',"memory":{memory}' if memory else ""
        return self._checkpoint(step, upload_id, save_type, base, files, rest)

    def shard(
        self,
        step: int,
        upload_id: str,
        save_type: str,
        base: str,
        files: list[StagedFile],
        ranks: int,
        folder: str,
        failure: str,
    ) -> bool:
        """Record this rank's part of a sharded checkpoint: no files yet, its files, or a failure.

        Args:
            ranks: How many ranks have a part.
            folder: The path that the files of all parts are below.
            failure: Why it will have no files.

        Returns:
            False if the record is lost.
        """
        rest = f',"ranks":{ranks},"folder":{encode_string(folder)}'
        if failure:
            rest += f',"failure":{encode_string(failure)}'
        return self._checkpoint(step, upload_id, save_type, base, files, rest)

    def _checkpoint(
        self,
        step: int,
        upload_id: str,
        save_type: str,
        base: str,
        files: list[StagedFile],
        rest: str,
    ) -> bool:
        listed = ",".join(
            f'{{"path":{encode_string(f.path)},"size":{f.size},"mtime_ns":{f.mtime_ns}'
            + (f',"inode":{f.inode}}}' if f.inode else "}")
            for f in files
        )
        return self._record(
            "checkpoint",
            step,
            f',"id":"{upload_id}","save":"{save_type}","staged":".periflow/{upload_id}"'
            f',"base":{encode_string(base)},"files":[{listed}]{rest}',
        )

    def finish(self, step: int) -> None:
        """Record the normal end of the process and close."""
        self._record("finish", step, "")
        self.file.close()

    def abandon(self, reason: str) -> None:
        """Lose every later record, for this reason."""
        self.held.clear()
        self.late.waiting.clear()
        self.file.abandon(reason)

    def _record(self, kind: str, step: int, rest: str) -> bool:
        if self.held:
            self.write_held()
        line = f'{{"t":"{kind}","s":{step},"w":{_now():.3f}{rest}}}\n'.encode()
        return len(line) <= LONGEST_RECORD and self.file.append(line)

    def _open_segment(self) -> int:
        # Only the last folder is made: a run directory that is gone is not wanted any more.
        self._folder.mkdir(exist_ok=True)
        pid = os.getpid()
        path = self._folder / f"{time.time_ns():020d}-{pid}.jsonl"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        header = f'{{"t":"header","v":1,"rank":{self._rank},"pid":{pid},"w":{_now():.3f}}}\n'
        try:
            if os.write(fd, header.encode()) != len(header):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            os.close(fd)
            path.unlink()
            raise
        return fd


class LocalLog(MetricLog):
    """The metrics of a run outside a job, one JSON object a line; nothing else is kept.

    Args:
        path: The file to append to; None keeps nothing.

    Raises:
        UsageError: The file cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.file: AppendFile | None = None
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                os.close(self._open())
            except OSError as error:
                raise UsageError(
                    f"local_log_name={str(path)!r} cannot be written: {error.strerror}",
                    hint="name a file in a folder that you may write to",
                ) from None
            self.file = AppendFile(self._open)
        # Ours come first: where a user has a "step" or a "time", readers take the last.
        append = self.file.append if self.file is not None else _forget
        super().__init__('{"step":%d,"time":%de-3,', "}\n", append)

    def step(self, step: int, nanoseconds: int) -> None:
        """Nothing to keep."""

    def finish(self, step: int) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()

    def abandon(self, reason: str) -> None:
        """Lose every later record, for this reason."""
        self.held.clear()
        self.late.waiting.clear()
        if self.file is not None:
            self.file.abandon(reason)

    def _open(self) -> int:
        assert self._path is not None
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            os.write(fd, b"\n")  # an earlier run was cut off within a line
        return fd


def _forget(line: bytes, records: int = 1) -> None:
    """The end of a run that nobody wants a log of."""
