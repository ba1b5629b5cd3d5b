"""Samples as they lie in files, tars, parquet, and in what other libraries write."""

from __future__ import annotations

import gzip
import importlib.util
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import foreign_shards
import pytest

from periflow_sdk.data import Stream, stream
from periflow_sdk.data.dataset import Dataset
from periflow_sdk.data.source import DataFile, FolderSource
from periflow_sdk.errors import IntegrityError, PeriFlowError, UsageError


def write_tar(path: Path, members: list[tuple[str, bytes]], tar_format: int) -> None:
    with tarfile.open(path, "w", format=tar_format) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERIFLOW_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


class CountingSource(FolderSource):
    """Remembers which files were fetched and read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.fetched: list[str] = []

    def fetch(self, file: DataFile) -> Path:
        self.fetched.append(file.path)
        return super().fetch(file)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def test_each_file_is_a_sample_with_key_and_ending(folder: Path) -> None:
    (folder / "train").mkdir()
    for name, content in (("train/1.seg.png", b"one"), ("train/README", b"two"), ("3.txt", b"")):
        (folder / name).write_bytes(content)
    assert list(stream(folder)) == [
        {"__key__": "3", "txt": b""},
        {"__key__": "train/1", "seg.png": b"one"},
        {"__key__": "train/README", "data": b"two"},
    ]
    assert [each["__key__"] for each in stream(folder, "train")] == ["train/1", "train/README"]
    assert [each["__key__"] for each in stream(folder, "*.png")] == ["train/1"]


@pytest.mark.parametrize(
    "tar_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_files_of_a_tar_are_samples_by_key(folder: Path, tar_format: int) -> None:
    long = "/".join(["a-long-folder-name" * 2] * 3) + "/" + "n" * 60
    names = [f"{long}.jpg", f"{long}.cls", "é/2.jpg", "é/2.seg.png", "3.txt", "3.empty"]
    members = [(name, name.encode() * number) for number, name in enumerate(names, 1)]
    members[-1] = "3.empty", b""
    members.insert(2, ("__meta__", b"of webdataset"))
    write_tar(folder / "a.tar", members[:3], tar_format)
    write_tar(folder / "b.tar", members[3:], tar_format)
    write_tar(folder / "c.tar", [], tar_format)
    samples = stream(folder)
    assert samples.layout == "tar" and len(samples) == 3
    assert list(samples) == [
        {"__key__": long, "jpg": members[0][1], "cls": members[1][1]},
        {"__key__": "é/2", "jpg": members[3][1], "seg.png": members[4][1]},
        {"__key__": "3", "txt": members[5][1], "empty": b""},
    ]


def test_shards_that_webdataset_wrote_are_read_like_webdataset_reads_them(folder: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    with webdataset.ShardWriter(str(folder / "%03d.tar"), maxcount=7, verbose=0) as writer:
        for number in range(20):
            writer.write({"__key__": f"{number:05}", "bin": b"x" * number, "cls": str(number)})
    shards = [str(path) for path in sorted(folder.iterdir())]
    expected = [
        {name: value for name, value in each.items() if name not in ("__url__", "__local_path__")}
        for each in webdataset.WebDataset(shards, shardshuffle=False)
    ]
    assert list(stream(folder)) == expected and len(expected) == 20


def test_tars_without_an_index_are_counted_once(folder: Path) -> None:
    for number in range(3):
        members = [(f"{number}-{k}.txt", b"x") for k in range(number + 1)]
        write_tar(folder / f"{number}.tar", members, tarfile.USTAR_FORMAT)
    source = CountingSource(folder)
    first = stream(Dataset("d", source))
    assert len(first) == 6 and source.fetched
    (folder / "2.tar").write_bytes((folder / "1.tar").read_bytes().ljust(10240, b"\0"))
    changed = stream(Dataset("d", CountingSource(folder)))
    assert len(changed) == 5
    index = {"shardlist": [{"url": f"{n}.tar", "nsamples": n + 1} for n in range(2)]}
    index["shardlist"].append({"url": "2.tar", "nsamples": 2})
    (folder / "index.json").write_text(json.dumps(index))
    source = CountingSource(folder)
    indexed = stream(Dataset("d", source))
    assert len(indexed) == 5 and not source.fetched
    assert list(indexed) == list(changed)


def test_rows_of_parquet_files_are_dicts(folder: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    rows = [{"id": n, "text": f"row {n}", "vector": [n, n + 1]} for n in range(50)]
    pq.write_table(pa.Table.from_pylist(rows[:30]), folder / "a.parquet", row_group_size=8)
    pq.write_table(pa.Table.from_pylist(rows[30:]), folder / "b.parquet", row_group_size=100)
    source = CountingSource(folder)
    samples = stream(Dataset("d", source))
    assert len(samples) == 50 and not source.fetched
    assert list(samples) == rows
    mixed = stream(folder, shuffle=True)
    assert mixed.__getitems__([3, 40, 7, 3]) == [mixed[3], mixed[40], mixed[7], mixed[3]]
    assert sorted(row["id"] for row in mixed) == list(range(50))


def test_a_long_footer_of_parquet_is_read_whole(folder: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = pa.table({f"column {n}": range(40) for n in range(40)})
    pq.write_table(table, folder / "wide.parquet", row_group_size=1)
    assert len(stream(folder)) == 40


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Gives the folder of a data set that its own library wrote."""
    base = tmp_path_factory.mktemp("foreign")

    def write(kind: str) -> Path:
        library = {"mds": "streaming", "litdata": "litdata"}[kind]
        if importlib.util.find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
        folder = base / kind
        if not folder.exists():
            script = str(Path(foreign_shards.__file__))
            subprocess.run([sys.executable, script, kind, str(folder)], check=True)
        return folder

    return write


def assert_same(found: Any, expected: Any) -> None:
    """Equal in values, types and shapes."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for name, value in expected.items():
            assert_same(found[name], value)
    elif hasattr(expected, "dtype"):
        assert found.dtype == expected.dtype and found.shape == expected.shape
        assert (found == expected).all()
    else:
        assert found == expected


@pytest.mark.parametrize("compression", ["", "gz", "zstd"])
def test_shards_of_mosaicml_streaming_are_read(
    foreign: Callable[..., Path], tmp_path: Path, compression: str
) -> None:
    folder = foreign("mds")
    if compression:
        folder = compressed(folder, tmp_path / "compressed", compression)
    samples = stream(folder)
    assert samples.layout == "mds" and len(samples._layout.blocks) == 3
    for found, number in zip(samples, range(foreign_shards.ITEMS), strict=True):
        expected = foreign_shards.mds_sample(number)
        assert_same(dict(sorted(found.items())), dict(sorted(expected.items())))


def compressed(folder: Path, target: Path, compression: str) -> Path:
    """The same shards, compressed and named as mosaicml-streaming does it."""
    zstandard = pytest.importorskip("zstandard")
    compress = {"gz": gzip.compress, "zstd": zstandard.compress}[compression]
    target.mkdir()
    index = json.loads((folder / "index.json").read_text())
    for shard in index["shards"]:
        name = shard["raw_data"]["basename"]
        (target / f"{name}.{compression}").write_bytes(compress((folder / name).read_bytes()))
        zip_data = {"basename": f"{name}.{compression}"}
        shard |= {"compression": f"{compression}:3", "zip_data": zip_data}
    (target / "index.json").write_text(json.dumps(index))
    return target


def test_chunks_of_litdata_are_read(foreign: Callable[..., Path]) -> None:
    samples = stream(foreign("litdata"))
    assert samples.layout == "litdata" and len(samples._layout.blocks) == 3
    for found, number in zip(samples, range(foreign_shards.ITEMS), strict=True):
        assert_same(found, foreign_shards.litdata_sample(number))


def test_a_folder_above_or_a_split_is_found_by_its_index(
    foreign: Callable[..., Path], tmp_path: Path
) -> None:
    shutil.copytree(foreign("mds"), tmp_path / "top/train")
    assert len(stream(tmp_path / "top")) == len(stream(tmp_path / "top", "train")) == 10


def litdata_kind(folder: Path) -> None:
    index = {"chunks": [], "config": {"compression": "zstd", "data_format": []}}
    (folder / "index.json").write_text(json.dumps(index))


def cut_tar(folder: Path) -> None:
    write_tar(folder / "a.tar", [("1.bin", b"x" * 4000)], tarfile.USTAR_FORMAT)
    with (folder / "a.tar").open("r+b") as file:
        file.truncate(3000)


def not_parquet(folder: Path) -> None:
    (folder / "a.parquet").write_bytes(b"no parquet at all")


def wrong_count(folder: Path) -> None:
    write_tar(folder / "a.tar", [("1.bin", b"x")], tarfile.USTAR_FORMAT)
    index = {"shardlist": [{"url": "a.tar", "nsamples": 2}]}
    (folder / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda folder: None, UsageError, "has no files"),
        (litdata_kind, UsageError, "cannot be read (zstd)"),
        (cut_tar, IntegrityError, "ends in the middle"),
        (lambda folder: (folder / "a.tar").write_bytes(b"garbage " * 200), IntegrityError, "a.tar"),
        (not_parquet, IntegrityError, "a.parquet is no parquet file"),
        (wrong_count, IntegrityError, "a.tar: it has 1 samples, index.json says 2"),
    ],
)
def test_what_cannot_be_read_is_said_in_a_sentence(
    folder: Path, make: Callable[[Path], object], kind: type[PeriFlowError], words: str
) -> None:
    make(folder)
    with pytest.raises(kind) as caught:
        list(stream(folder))
    assert words in str(caught.value)


def test_a_pattern_without_files_and_wrong_arguments_are_refused(folder: Path) -> None:
    (folder / "1.txt").write_text("x")
    with pytest.raises(UsageError, match="no files under 'test'"):
        stream(folder, "test")
    with pytest.raises(UsageError, match=r"no \.tar files"):
        stream(folder, layout="tar")
    with pytest.raises(UsageError, match="one of auto, files"):
        stream(folder, layout="zip")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="rank=2 of world_size=2"):
        stream(folder, rank=2, world_size=2)


def test_a_transform_is_applied_and_numbers_go_on_over_epochs(folder: Path) -> None:
    for number in range(9):
        (folder / f"{number}.txt").write_text(str(number))
    samples: Stream = stream(
        folder, shuffle=True, seed=4, transform=lambda sample: int(sample["txt"])
    )
    first, second = (samples.__getitems__(list(range(s, s + 9))) for s in (0, 9))
    assert sorted(first) == sorted(second) == list(range(9)) and first != second
    assert samples.__getitems__([8, 9]) == [first[-1], second[0]]
    assert [samples[n] for n in range(9)] == first == list(samples)
