"""Downloading a linked dataset from a store that fails more often than not."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from waiting import wait_until

from periflow_cli import fetch
from periflow_cli.arrival import held
from periflow_cli.transfer import Bar
from periflow_sdk._boot import boot_id
from periflow_sdk.api.models import DatasetFile
from periflow_sdk.errors import PeriFlowError

CONTENT = os.urandom(300_000)
FILE = DatasetFile(path="a/b.bin", size=len(CONTENT), etag="one")


class Store(ThreadingHTTPServer):
    """Has one object: breaks off after a tenth of it, answers 503, and signs for two requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.etag, self.signed, self.asked, self.sent = '"one"', 0, 0, 0
        self.breaks_off = True
        self.before_second: Callable[[], object] = lambda: None

    def sign(self, _: str, __: str, paths: list[str]) -> list[Any]:
        self.signed += 1
        url = f"http://127.0.0.1:{self.server_address[1]}"
        names = ["second" if path == "second" else self.signed for path in paths]
        return [SimpleNamespace(url=f"{url}/{name}") for name in names]


class Handler(BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        store = self.server
        if self.path == "/second":
            store.before_second()
            self.answer(200, b"2", b"2")
            return
        store.asked += 1
        if self.headers["If-Match"] != store.etag:
            self.answer(412)
        elif store.asked % 3 == 0:
            self.answer(503)
        elif int(self.path[1:]) != 1 + store.asked // 5:
            self.answer(403)
        else:
            start = int((self.headers["Range"] or "bytes=0-")[6:-1])
            end = len(CONTENT) // 10 + start if store.breaks_off else len(CONTENT)
            self.answer(206 if start else 200, CONTENT[start:], CONTENT[start:end])

    def answer(self, status: int, whole: bytes = b"", piece: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(whole)))
        self.end_headers()
        self.server.sent += len(piece)
        self.wfile.write(piece)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr(fetch.time, "sleep", lambda _: None)
    with Store() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


def write_log(folder: Path, text: str, boot: str | None = None) -> None:
    """What a killed download to ``home`` has noted."""
    boot = boot_id() if boot is None else boot
    (folder / ".home.part.log").write_text(f"{boot}\n{text}")


def download(store: Store, target: Path, *others: DatasetFile) -> Bar:
    files = [FILE, *others]
    client = SimpleNamespace(dataset_files=lambda *_: iter(files), dataset_sources=store.sign)
    connection: Any = SimpleNamespace(client=client, project=SimpleNamespace(id="p"))
    dataset: Any = SimpleNamespace(id="d", cloud="s3")
    with Bar("Downloading", 0) as bar:
        fetch.Fetch(connection, dataset, target, force=False).run(bar)
    return bar


def test_every_byte_that_arrived_is_kept(store: Store, tmp_path: Path) -> None:
    bar = download(store, tmp_path / "home")
    assert (tmp_path / "home/a/b.bin").read_bytes() == CONTENT
    assert store.sent == bar.moved == len(CONTENT)
    assert store.signed > 1, "no address was over"


def test_object_that_changed_since_it_was_listed_is_not_taken_for_it(
    store: Store, tmp_path: Path
) -> None:
    store.etag = '"two"'
    with pytest.raises(PeriFlowError) as caught:
        download(store, tmp_path / "home")
    assert caught.value.code == "dataset_changed" and not (tmp_path / "home").exists()
    assert "same command again" in str(caught.value.hint)


def test_what_the_bucket_lost_since_a_killed_run_is_not_published(
    store: Store, tmp_path: Path
) -> None:
    store.breaks_off = False
    part = tmp_path / ".home.part"
    part.mkdir()
    for name in ("whole", "half"):
        (part / name).write_bytes(b"old")
    write_log(tmp_path, "etag whole\n")
    download(store, tmp_path / "home")
    there = [path for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert there == [tmp_path / "home/a/b.bin"]


def test_folder_that_is_there_stays_the_same_one_with_its_other_files(
    store: Store, tmp_path: Path
) -> None:
    store.breaks_off = False
    (tmp_path / "own").write_text("mine")
    before = tmp_path.stat().st_ino
    download(store, tmp_path / "x" / "..")
    assert tmp_path.stat().st_ino == before
    assert (tmp_path / "a/b.bin").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "own"]


@pytest.mark.parametrize("is_there", [True, False])
def test_second_download_to_a_target_is_refused_and_takes_nothing_from_the_first(
    store: Store, tmp_path: Path, is_there: bool
) -> None:
    target = tmp_path / "home"
    part = target if is_there else tmp_path / ".home.part"
    part.mkdir()
    (part / "under way").write_bytes(b"of the first")
    with held(part, target), pytest.raises(PeriFlowError) as caught:
        download(store, target)
    assert caught.value.code == "download_running"
    assert (part / "under way").read_bytes() == b"of the first"


@pytest.mark.parametrize("end", ["killed", "power cut"])
def test_what_had_arrived_of_a_file_is_kept_unless_the_machine_went_down(
    store: Store, tmp_path: Path, end: str
) -> None:
    store.breaks_off = False
    there = tmp_path / ".home.part/a/b.bin"
    there.parent.mkdir(parents=True)
    there.write_bytes(CONTENT[:100_000])
    write_log(tmp_path, ">one a/b.bin\n", None if end == "killed" else "another")
    bar = download(store, tmp_path / "home")
    assert (tmp_path / "home/a/b.bin").read_bytes() == CONTENT
    spared = 100_000 if end == "killed" else 0
    assert (bar.spared, store.sent) == (spared, len(CONTENT) - spared)


def test_whole_file_is_noted_at_once_for_the_run_after_a_kill(store: Store, tmp_path: Path) -> None:
    store.breaks_off = False
    noted = tmp_path / ".home.part.log"
    store.before_second = lambda: wait_until(lambda: "\none a/b.bin\n" in noted.read_text(), 60)
    download(store, tmp_path / "home", DatasetFile(path="second", size=1, etag="one"))
    assert (tmp_path / "home/second").read_bytes() == b"2"
