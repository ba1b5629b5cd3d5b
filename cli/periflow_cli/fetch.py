"""Files of a linked dataset on their way into a folder, straight from the bucket."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import httpx

from periflow_cli.arrival import GATHERING, held, move_in, refuse_taken
from periflow_cli.connection import Connection
from periflow_cli.transfer import Bar
from periflow_sdk._boot import boot_id
from periflow_sdk.api.models import Dataset, DatasetFile, DatasetSource
from periflow_sdk.data.signed import EXPIRED, condition, refuse_another
from periflow_sdk.errors import PeriFlowError
from periflow_sdk.snapshots.path import check_path
from periflow_sdk.snapshots.transfer import disk_full, is_full

_AT_ONCE = 8
_SIGNED_AT_ONCE = 200
_TRIES = 8
"""Without a single byte in between."""
_WORTH_KEEPING_BYTES = 1 << 20
"""What has arrived of a larger file is kept when the process is killed."""


class Fetch:
    """One download; killed and begun again it fetches only the rest.

    Whole files gather in ``.NAME.part`` beside the target, or in the target if it is there, and a
    line a file in a log says what they were in the bucket: ``etag path`` once it is whole, ``>etag
    path`` once it has begun. They appear when all are there.

    Args:
        force: Replace files that are there.
    """

    def __init__(
        self, connection: Connection, dataset: Dataset, target: Path, *, force: bool
    ) -> None:
        self._client = connection.client
        self._project = connection.project.id
        self._dataset = dataset
        self._target = Path(os.path.abspath(target))  # noqa: PTH100 - links are not followed
        self._force = force
        self._is_there = self._target.is_dir()
        name = f".{self._target.name}.part"
        self._part = self._target / GATHERING if self._is_there else self._target.with_name(name)
        self._log = self._part.with_name(f"{self._part.name}.log")
        self._whole: dict[str, str] = {}
        self._begun: dict[str, str] = {}
        self.count = 0
        self.size = 0

    def check(self) -> None:
        """Refuse a target that is not a folder, or that has files of the same names.

        Raises:
            ConflictError: and force was not given.
        """
        files = self._client.dataset_files(self._project, self._dataset.id)
        refuse_taken(self._target, (file.path for file in files), force=self._force)

    def measure(self) -> None:
        """Count the files and their bytes; nothing is fetched."""
        for file in self._client.dataset_files(self._project, self._dataset.id):
            self.count, self.size = self.count + 1, self.size + file.size

    def run(self, bar: Bar) -> None:
        """Fetch all files.

        Raises:
            PeriFlowError: the store does not deliver (``transfer_failed``), a file changed in
                the bucket meanwhile (``dataset_changed``), the disk is full (``disk_full``), or
                another process is at it (``download_running``).
        """
        self._part.mkdir(parents=True, exist_ok=True)
        try:
            with held(self._target if self._is_there else self._part, self._target):
                self._fetch(bar)
                self._publish()
        except PeriFlowError as error:
            if error.code == "dataset_changed":
                error.hint = "Run the same command again: it fetches what changed and the rest."
            raise
        except OSError as error:
            if not is_full(error):
                raise
            missing = max(0, self.size - bar.moved - bar.spared)
            raise disk_full(self._part.parent, missing) from error

    def _fetch(self, bar: Bar) -> None:
        has_log = self._recall()
        self._sweep()
        with (
            ThreadPoolExecutor(_AT_ONCE) as pool,
            httpx.Client(timeout=httpx.Timeout(60, connect=10)) as http,
            # Line by line: of a process that is killed, what is in its memory is lost.
            self._log.open("a" if has_log else "w", encoding="utf-8", buffering=1) as log,
        ):
            if not has_log:
                log.write(f"{boot_id()}\n")
            running: set[Future[DatasetFile]] = set()
            try:
                for files in self._batches(bar):
                    for file, source in zip(files, self._signed(files), strict=True):
                        while len(running) >= 2 * _AT_ONCE:
                            running = self._settle(running, log.write)
                        if file.size > _WORTH_KEEPING_BYTES:
                            self._note(log.write, ">", file)
                        running.add(pool.submit(self._one, http, file, source, bar))
                while running:
                    running = self._settle(running, log.write)
                # What was in the bucket when an earlier run was killed.
                for path in (*self._whole, *self._begun):
                    (self._part / path).unlink(missing_ok=True)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _batches(self, bar: Bar) -> Iterator[list[DatasetFile]]:
        batch: list[DatasetFile] = []
        for file in self._client.dataset_files(self._project, self._dataset.id):
            self.count, self.size = self.count + 1, self.size + file.size
            bar.total(self.size, self.count)
            check_path(file.path)
            if file.etag and self._whole.pop(file.path, None) == file.etag:
                bar.skipped(file.size)
                continue
            if self._begun.pop(file.path, None) != file.etag or not file.etag:
                (self._part / file.path).unlink(missing_ok=True)
            batch.append(file)
            if len(batch) == _SIGNED_AT_ONCE:
                yield batch
                batch = []
        if batch:
            yield batch

    def _signed(self, files: Sequence[DatasetFile]) -> list[DatasetSource]:
        return self._client.dataset_sources(
            self._project, self._dataset.id, [file.path for file in files]
        )

    def _settle(
        self, running: set[Future[DatasetFile]], write: Callable[[str], object]
    ) -> set[Future[DatasetFile]]:
        done, left = wait(running, return_when=FIRST_COMPLETED)
        for each in done:
            self._note(write, "", each.result())
        return left

    def _note(self, write: Callable[[str], object], mark: str, file: DatasetFile) -> None:
        if file.etag and "\n" not in file.path:
            write(f"{mark}{file.etag} {file.path}\n")

    def _one(
        self, http: httpx.Client, file: DatasetFile, source: DatasetSource, bar: Bar
    ) -> DatasetFile:
        goal = self._part / file.path
        goal.parent.mkdir(parents=True, exist_ok=True)
        arrived = goal.stat().st_size if goal.exists() else 0
        bar.skipped(arrived)
        if arrived and arrived == file.size:
            return file
        tried = 0
        while tried < _TRIES:
            if tried:
                time.sleep(min(0.1 * 2**tried, 8.0) * random.uniform(0.5, 1.0))
            before, why = arrived, ""
            try:
                for size in self._pieces(http, file, source.url, goal, arrived):
                    bar.advance(size - arrived)
                    arrived = size
            except httpx.HTTPStatusError as error:
                why = f"the store answered {error.response.status_code}"
                if error.response.status_code in EXPIRED:
                    (source,) = self._signed([file])
            except httpx.HTTPError as error:
                why = str(error) or type(error).__name__
            if arrived == file.size and (arrived or not why):
                return file
            why = why or f"it has {arrived:,} bytes, and the list says {file.size:,}"
            tried = 1 if arrived > before else tried + 1
        raise PeriFlowError(
            f"{file.path} did not arrive whole: {why}.",
            code="transfer_failed",
            hint="Run the same command again: it fetches only the rest.",
        )

    def _pieces(
        self, http: httpx.Client, file: DatasetFile, url: str, goal: Path, arrived: int
    ) -> Iterator[int]:
        """Fetch what is missing; yields how much of the file is there, after each piece."""
        cloud = self._dataset.cloud
        headers = {"Accept-Encoding": "identity", **condition(file.etag, cloud)}
        if arrived:
            headers["Range"] = f"bytes={arrived}-"
        with http.stream("GET", url, headers=headers) as answer:
            refuse_another(answer, file.path, file.etag, cloud)
            answer.raise_for_status()
            if answer.status_code != 206:
                arrived = 0
            with goal.open("r+b" if arrived else "wb") as out:
                out.seek(arrived)
                for piece in answer.iter_raw():
                    if arrived + len(piece) > file.size:
                        raise httpx.RemoteProtocolError("more bytes came than the list says")
                    out.write(piece)
                    arrived += len(piece)
                    yield arrived

    def _recall(self) -> bool:
        """Read what an earlier, interrupted run has noted: path → etag; False if nothing holds.

        When the machine went down in between, what was noted may never have reached the disk.
        """
        try:
            boot, *lines = self._log.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError):
            return False
        if boot != boot_id():
            return False
        for line in lines:
            etag, _, path = line.partition(" ")
            now, no_longer = self._whole, self._begun
            if etag.startswith(">"):
                now, no_longer = no_longer, now
            no_longer.pop(path, None)
            if (self._part / path).is_file():
                now[path] = etag.removeprefix(">")
        return True

    def _sweep(self) -> None:
        """Remove what no line speaks of: the bucket may not have it any more."""
        for folder, _, names in os.walk(self._part):
            for name in names:
                path = Path(folder) / name
                noted = path.relative_to(self._part).as_posix()
                if noted not in self._whole and noted not in self._begun:
                    path.unlink()

    def _publish(self) -> None:
        if self._is_there:
            move_in(self._part, self._target)
        else:
            self._part.replace(self._target)
        self._log.unlink(missing_ok=True)
