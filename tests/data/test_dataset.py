"""A dataset that PeriFlow keeps, as a script reads it with a login."""

from __future__ import annotations

import os
import random
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

import periflow_sdk as pf
from periflow_sdk.api import models as m
from periflow_sdk.data.cache import node_cache
from periflow_sdk.errors import NotFoundError, UsageError
from periflow_sdk.snapshots import upload_folder

pa = pytest.importorskip("pyarrow")
LARGE = 17 * 1024 * 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small files that share a chunk, one of several chunks, an empty one, a link, a table."""
    root = tmp_path_factory.mktemp("data")
    for number in range(20):
        path = root / "train" / f"{number % 2}" / f"{number:02}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"sample {number}\n" * 50)
    (root / "large.bin").write_bytes(random.Random(1).randbytes(LARGE))
    (root / "empty").touch()
    (root / "first.txt").symlink_to("train/0/00.txt")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"n": list(range(1000))}), root / "table.parquet", row_group_size=100)
    return root


@pytest.fixture(scope="module")
def client(server: Any, folder: Path) -> Any:
    """A user whose project has the folder as ``numbers``."""
    client = server.client()
    snapshot = upload_folder(client, client.project, folder, keep_name=False)
    client.create_dataset(client.project, m.DatasetCreate(name="numbers", snapshot_id=snapshot.id))
    return client


@pytest.fixture
def dataset(server: Any, client: Any, log_in: Callable[..., Path]) -> pf.data.Dataset:
    log_in(server, client)
    return pf.dataset("numbers")


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_every_way_of_reading_gives_what_was_uploaded(dataset: Any, folder: Path) -> None:
    expected = contents(folder)
    paths = [file.path for file in dataset.files]
    assert paths == sorted(expected) and dataset.version == 1
    assert [file.size for file in dataset.files] == [len(expected[path]) for path in paths]
    assert dict(zip(paths, dataset.read(paths), strict=True)) == expected
    assert dataset.read_range("large.bin", LARGE - 5, LARGE + 99) == expected["large.bin"][-5:]
    fetched = dataset.fetch("large.bin")
    assert fetched.name == "large.bin" and fetched.read_bytes() == expected["large.bin"]
    with dataset.open("first.txt", "r", encoding="utf-8") as file:
        assert file.readline() == "sample 0\n"
    assert contents(dataset.path) == expected
    assert (dataset.path / "first.txt").is_symlink()
    assert dataset.fetch("large.bin").is_relative_to(dataset.path)  # no longer from elsewhere
    with pytest.raises(NotFoundError, match="has no file 'large'"):
        dataset.fetch("large")
    with pytest.raises(UsageError, match="read only"):
        dataset.open("empty", "w")


def test_small_file_brings_those_that_share_its_chunk(
    dataset: Any, server: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset.fetch("train/0/00.txt")
    asked: list[int] = []
    original = type(client).chunk_sources

    def counted(self: Any, project: str, chunks: Any) -> Any:
        asked.append(len(chunks))
        return original(self, project, chunks)

    monkeypatch.setattr("periflow_sdk.api.calls.snapshot.SnapshotCalls.chunk_sources", counted)
    small = [file.path for file in dataset.files if file.path.startswith("train/")]
    assert len(dataset.read(small)) == 20
    assert asked == []


def test_threads_that_ask_at_once_get_one_folder(dataset: Any, folder: Path) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(dataset.path)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(set(found)) == 1 and len(found) == 4
    assert sum(1 for unit in node_cache().units() if (unit.folder / "data").exists()) == 1


def test_pf_is_a_file_system(dataset: Any, folder: Path) -> None:
    fs = fsspec.filesystem("pf")
    fs.invalidate_cache()
    assert sorted(fs.ls("pf://numbers", detail=False)) == sorted(
        f"numbers/{path.name}" for path in folder.iterdir()
    )
    assert len(fs.glob("pf://numbers/train/*/*.txt")) == 20
    assert fs.info("numbers/train")["type"] == "directory" and fs.isfile("numbers/empty")
    large = (folder / "large.bin").read_bytes()
    with fsspec.open("pf://numbers/large.bin", "rb") as file:
        file.seek(LARGE - 1000)
        assert file.read() == large[-1000:]
    assert fs.cat_file("numbers/large.bin", start=-7) == large[-7:]
    with pytest.raises(FileNotFoundError):
        fs.open("pf://numbers/none")
    with pytest.raises(FileNotFoundError, match="pf dataset list"):
        fs.ls("pf://nothing")
    with pytest.raises(OSError, match="read only"):
        fs.open("pf://numbers/new", "wb")


def test_libraries_read_it_by_its_address(dataset: Any) -> None:
    import pyarrow.parquet as pq

    fsspec.filesystem("pf").invalidate_cache()
    table = pq.read_table(f"{dataset.name}/table.parquet", filesystem=dataset.fs)
    assert table.num_rows == 1000
    datasets = pytest.importorskip("datasets")
    rows = datasets.load_dataset(
        "parquet",
        data_files=f"{dataset.url}/table.parquet",
        storage_options=dataset.storage_options,
        split="train",
        streaming=True,
    )
    assert [row["n"] for row in rows.take(3)] == [0, 1, 2]


def test_damage_in_the_store_is_found(
    server: Any, log_in: Callable[..., Path], tmp_path: Path
) -> None:
    client = server.client()
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(os.urandom(1000))
    snapshot = upload_folder(client, client.project, tmp_path / "d", keep_name=False)
    client.create_dataset(client.project, m.DatasetCreate(name="hurt", snapshot_id=snapshot.id))
    for chunk in (server.data_dir / "storage").rglob("*"):
        if chunk.is_file() and chunk.stat().st_size == 1000 and client.project in str(chunk):
            chunk.chmod(0o600)
            chunk.write_bytes(os.urandom(1000))
    log_in(server, client)
    with pytest.raises(pf.PeriFlowError, match="other bytes than its hash promises"):
        pf.dataset("hurt").read(["f"])


def test_without_a_login_it_says_what_to_do(
    cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERIFLOW_HOME", str(tmp_path / "empty"))
    with pytest.raises(UsageError, match="pf login"):
        pf.dataset("numbers")


def test_api_key_opens_the_datasets_of_its_project(
    server: Any, client: Any, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = client.create_key(client.project, m.ApiKeyCreate(name="ci", role="guest"))
    monkeypatch.setenv("PERIFLOW_HOME", str(tmp_path / "empty"))
    monkeypatch.setenv("PERIFLOW_URL", server.url)
    monkeypatch.setenv("PERIFLOW_API_KEY", key.key)
    assert pf.dataset("numbers").read(["train/0/00.txt"])[0].startswith(b"sample 0")


@pytest.mark.parametrize("name", ["", "./folder", "a/b"])
def test_path_in_place_of_a_name_is_told_from_one(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        pf.dataset(name)
    assert "pf.dataset('my-data')" in caught.value.message or "Path" in str(caught.value.hint)


def test_unknown_name_is_not_found_and_the_traceback_says_the_nearest(dataset: Any) -> None:
    with pytest.raises(NotFoundError) as caught:
        pf.dataset("number")
    shown = "".join(traceback.format_exception(caught.value))
    assert "Did you mean numbers?" in shown and "pf dataset list" in shown
