"""Many small files become tar shards that streams and webdataset read."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from periflow_sdk.data import stream
from periflow_sdk.data.packing import pack_files, plan_shards
from periflow_sdk.errors import PeriFlowError, UsageError
from periflow_sdk.snapshots.scan import plan_folder

CLASSES, EACH = 5, 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folders of one class each; a sample is an image and a label."""
    for name in range(CLASSES):
        (tmp_path / f"data/class-{name}").mkdir(parents=True)
        for number in range(EACH):
            start = tmp_path / f"data/class-{name}/{number:03}"
            start.with_suffix(".jpg").write_bytes(bytes([number]) * (600 + number))
            start.with_suffix(".cls").write_text(str(name))
    (tmp_path / "data" / ("long" * 40 + ".txt")).write_text("a long name")
    (tmp_path / "data/empty.txt").touch()
    return tmp_path / "data"


def test_packed_samples_are_those_of_the_files(folder: Path, tmp_path: Path) -> None:
    files = plan_folder(folder).files
    done: list[int] = []
    shards = pack_files(files, tmp_path / "packed", shard_bytes=20_000, progress=done.append)
    assert sum(done) == sum(file.size for file in files)
    samples = stream(tmp_path / "packed")
    assert samples.layout == "tar" and len(samples) == CLASSES * EACH + 2
    found = {sample["__key__"]: sample for sample in samples}
    for name in range(CLASSES):
        for number in range(EACH):
            key = f"class-{name}/{number:03}"
            content = bytes([number]) * (600 + number)
            assert found[key] == {"__key__": key, "cls": str(name).encode(), "jpg": content}
    assert found["long" * 40]["txt"] == b"a long name" and found["empty"]["txt"] == b""
    sizes = [(tmp_path / "packed" / shard.name).stat().st_size for shard in shards]
    assert len(shards) > 5 and max(shard.size for shard in shards) < 26_000
    index = json.loads((tmp_path / "packed/index.json").read_text())
    assert [each["filesize"] for each in index["shardlist"]] == sizes


def test_a_shard_has_samples_of_all_folders_and_is_the_same_each_time(
    folder: Path, tmp_path: Path
) -> None:
    files = plan_folder(folder).files
    for target in ("one", "two"):
        pack_files(files, tmp_path / target, shard_bytes=40_000)
    shards = sorted(path.name for path in (tmp_path / "one").iterdir())
    for name in shards:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    with tarfile.open(tmp_path / "one" / shards[1]) as tar:
        assert len({name.split("/")[0] for name in tar.getnames() if "/" in name}) == CLASSES


def test_a_change_leaves_most_shards_as_they_were(folder: Path, tmp_path: Path) -> None:
    pack_files(plan_folder(folder).files, tmp_path / "before", shard_bytes=10_000)
    (folder / "class-2/011.jpg").write_bytes(b"longer" * 300)
    (folder / "class-9").mkdir()
    (folder / "class-9/new.jpg").write_bytes(b"new")
    pack_files(plan_folder(folder).files, tmp_path / "after", shard_bytes=10_000)
    before, after = (
        {path.read_bytes() for path in (tmp_path / name).glob("*.tar")}
        for name in ("before", "after")
    )
    assert len(before) > 10 and len(before - after) <= 5 and after - before


def test_other_programs_read_the_shards(folder: Path, tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset")
    pack_files(plan_folder(folder).files, tmp_path / "packed", shard_bytes=50_000)
    shards = [str(path) for path in sorted((tmp_path / "packed").glob("*.tar"))]
    read = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [each["__key__"] for each in read] == [
        each["__key__"] for each in stream(tmp_path / "packed")
    ]


def test_a_file_that_changes_meanwhile_is_not_packed(folder: Path, tmp_path: Path) -> None:
    files = plan_folder(folder).files
    (folder / "class-1/007.jpg").write_bytes(b"x" * 607)
    with pytest.raises(PeriFlowError) as caught:
        pack_files(files, tmp_path / "packed")
    assert caught.value.code == "file_changed" and "class-1/007.jpg" in str(caught.value)


def test_no_files_make_no_shards(tmp_path: Path) -> None:
    assert plan_shards([]) == []
    with pytest.raises(UsageError):
        pack_files([], tmp_path / "packed")
