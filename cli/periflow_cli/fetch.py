"""Files of a linked dataset on their way into a folder, straight from the bucket."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

import httpx

from periflow_cli.connection import Connection
from periflow_cli.transfer import Bar
from periflow_sdk.api.models import Dataset, DatasetFile, DatasetSource
from periflow_sdk.errors import ConflictError, PeriFlowError

_AT_ONCE = 8
_SIGNED_AT_ONCE = 200
_TRIES = 4
_PIECE_BYTES = 1 << 20
_EXPIRED = (400, 401, 403)
"""What the services say to an address whose time is over."""


class Fetch:
    """One download; killed and begun again it fetches only the rest.

    Whole files gather in ``.NAME.part`` beside the target, and a line a file (``etag path``) says
    what they were in the bucket. The target appears when all are there.

    Args:
        force: Replace files that are there.
    """

    def __init__(
        self, connection: Connection, dataset: Dataset, target: Path, *, force: bool
    ) -> None:
        self._client = connection.client
        self._project = connection.project.id
        self._dataset = dataset
        self._target = target
        self._force = force
        self._part = target.with_name(f".{target.name}.part")
        self._log = target.with_name(f".{target.name}.part.log")
        self._lock = threading.Lock()
        self.count = 0
        self.size = 0

    def check(self) -> None:
        """Refuse a target that is there.

        Raises:
            ConflictError: and force was not given.
        """
        if not os.path.lexists(self._target):
            return
        if not self._target.is_dir():
            raise PeriFlowError(f"{self._target} is not a folder.", code="target_not_a_folder")
        if self._force or not any(self._target.iterdir()):
            return
        raise ConflictError(
            f"{self._target} is there already.",
            code="target_exists",
            hint="Choose another folder with -d DIR, or replace its files with --force.",
        )

    def measure(self) -> None:
        """Count the files and their bytes; nothing is fetched."""
        for file in self._client.dataset_files(self._project, self._dataset.id):
            self.count, self.size = self.count + 1, self.size + file.size

    def run(self, bar: Bar) -> None:
        """Fetch all files.

        Raises:
            PeriFlowError: the store does not deliver (``transfer_failed``), or a file changed in
                the bucket meanwhile (``file_changed``).
        """
        self._part.mkdir(parents=True, exist_ok=True)
        known = self._known()
        with (
            ThreadPoolExecutor(_AT_ONCE) as pool,
            httpx.Client(timeout=httpx.Timeout(60, connect=10)) as http,
            self._log.open("a", encoding="utf-8") as log,
        ):
            running: set[Future[DatasetFile]] = set()
            try:
                for files in self._batches(known, bar):
                    for file, source in zip(files, self._signed(files), strict=True):
                        while len(running) >= 2 * _AT_ONCE:
                            running = self._settle(running, log.write)
                        running.add(pool.submit(self._one, http, file, source, bar))
                while running:
                    running = self._settle(running, log.write)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self._publish()

    def _batches(self, known: dict[str, str], bar: Bar) -> Iterator[list[DatasetFile]]:
        batch: list[DatasetFile] = []
        for file in self._client.dataset_files(self._project, self._dataset.id):
            self.count, self.size = self.count + 1, self.size + file.size
            bar.total(self.size, self.count)
            if file.etag and known.get(file.path) == file.etag:
                bar.skipped(file.size)
                continue
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
            file = each.result()
            if file.etag and "\n" not in file.path:
                write(f"{file.etag} {file.path}\n")
        return left

    def _one(
        self, http: httpx.Client, file: DatasetFile, source: DatasetSource, bar: Bar
    ) -> DatasetFile:
        goal = self._part / file.path
        goal.parent.mkdir(parents=True, exist_ok=True)
        why = ""
        for _ in range(_TRIES):
            got = 0
            try:
                with http.stream("GET", source.url) as answer:
                    if answer.status_code in _EXPIRED:
                        (source,) = self._signed([file])
                    if answer.status_code != 200:
                        why = f"the store answered {answer.status_code}"
                        continue
                    with goal.open("wb") as out:
                        for piece in answer.iter_raw(_PIECE_BYTES):
                            out.write(piece)
                            got += len(piece)
                            bar.advance(len(piece))
            except httpx.HTTPError as error:
                why = str(error) or type(error).__name__
                continue
            finally:
                if got != file.size:
                    bar.advance(-got)
            if got == file.size:
                return file
            why = f"it has {got:,} bytes, and the list says {file.size:,}"
        raise PeriFlowError(
            f"{file.path} did not arrive whole: {why}.",
            code="transfer_failed",
            hint="Run the same command again: it fetches only the rest.",
        )

    def _known(self) -> dict[str, str]:
        """What an earlier, interrupted run has brought: path → etag."""
        try:
            lines = self._log.read_text(encoding="utf-8").splitlines()
        except OSError:
            return {}
        pairs = (line.partition(" ") for line in lines)
        return {path: etag for etag, _, path in pairs if (self._part / path).is_file()}

    def _publish(self) -> None:
        if self._target.is_dir() and any(self._target.iterdir()):
            # With force: its other files stay.
            for folder, _, names in os.walk(self._part):
                goal = self._target / Path(folder).relative_to(self._part)
                goal.mkdir(parents=True, exist_ok=True)
                for name in names:
                    (Path(folder) / name).replace(goal / name)
            shutil.rmtree(self._part)
        else:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._part.replace(self._target)
        self._log.unlink(missing_ok=True)
