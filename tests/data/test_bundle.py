"""Small objects are read from their bucket once, and then from the node's cache."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from zlib import crc32

import pytest

from periflow_sdk.data import Dataset, stream
from periflow_sdk.data.bundle import Bundles
from periflow_sdk.data.cache import Cache
from periflow_sdk.data.linked import LinkedSource
from periflow_sdk.data.source import DataFile


class Objects:
    """A bucket in the memory that remembers what it was asked for."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.asked: list[str] = []

    def list(self) -> list[DataFile]:
        return [DataFile(k, len(v), str(crc32(v))) for k, v in self.contents.items()]

    def announce(self, files: Sequence[DataFile]) -> None:
        pass

    def read(self, file: DataFile, start: int, end: int) -> Future[bytes]:
        self.asked.append(file.path)
        answer: Future[bytes] = Future()
        answer.set_result(self.contents[file.path][start:end])
        return answer

    def read_many(self, files: Sequence[DataFile]) -> Iterator[bytes]:
        return iter([self.read(file, 0, file.size).result() for file in files])

    def store(self, *_: object) -> Future[bytes]:
        raise NotImplementedError


@pytest.fixture
def bucket() -> Objects:
    numbers = random.Random(1)
    paths = [f"{folder}/{n:04}.bin" for folder in "abc" for n in range(1000)]
    return Objects({path: numbers.randbytes(numbers.randrange(50)) for path in paths})


def opened(bucket: Objects, folder: Path, capacity: int = 10**8) -> LinkedSource:
    return LinkedSource("link", bucket, Cache(folder, capacity), ("", {}))


def read_all(source: LinkedSource, expected: dict[str, bytes], seed: int = 2) -> None:
    files = list(source.files())
    random.Random(seed).shuffle(files)
    for start in range(0, len(files), 64):
        batch = files[start : start + 64]
        assert source.read(batch) == [expected[file.path] for file in batch]


def test_second_epoch_asks_the_bucket_for_nothing(bucket: Objects, tmp_path: Path) -> None:
    source = opened(bucket, tmp_path)
    read_all(source, bucket.contents)
    assert sorted(bucket.asked) == sorted(bucket.contents)
    bucket.asked.clear()
    for other in (source, pickle.loads(pickle.dumps(source)), opened(bucket, tmp_path)):
        read_all(other, bucket.contents, 3)
    assert not bucket.asked
    files = [path for path in (tmp_path / "units").rglob("objects") if path.is_file()]
    assert 1 < len(files) < 30


def test_the_next_batch_of_a_worker_is_asked_for_before_it_is_read(
    bucket: Objects, tmp_path: Path
) -> None:
    samples = stream(Dataset("objects", opened(bucket, tmp_path)))
    paths = sorted(bucket.contents)
    for number, start in enumerate(range(0, 1280, 128), 1):  # every other batch of 64
        read = samples.__getitems__(range(start, start + 64))
        assert [each["bin"] for each in read] == [
            bucket.contents[path] for path in paths[start : start + 64]
        ]
        ahead = 1 if number >= 3 else 0  # when the step between batches is known
        assert len(bucket.asked) == 64 * (number + ahead)
    assert len(set(bucket.asked)) == len(bucket.asked)
    bucket.asked.clear()
    for start in range(0, 1280, 128):
        samples.__getitems__(range(start, start + 64))
    assert not bucket.asked


def test_an_order_that_cannot_be_guessed_has_nothing_read_in_vain(
    bucket: Objects, tmp_path: Path
) -> None:
    samples = stream(Dataset("objects", opened(bucket, tmp_path)))
    numbers = random.Random(3).sample(range(len(samples)), 1280)
    for start in range(0, 1280, 64):
        samples.__getitems__(numbers[start : start + 64])
    assert len(bucket.asked) == 1280


def test_what_changes_leaves_most_of_the_rest_in_the_cache(bucket: Objects, tmp_path: Path) -> None:
    read_all(opened(bucket, tmp_path), bucket.contents)
    bucket.asked.clear()
    bucket.contents["b/0500.bin"] = b"changed"
    bucket.contents["a/9999.bin"] = b"new"
    del bucket.contents["c/0500.bin"]
    read_all(opened(bucket, tmp_path), bucket.contents)
    assert {"b/0500.bin", "a/9999.bin"} <= set(bucket.asked)
    assert len(bucket.asked) < len(bucket.contents) - 200


def test_damaged_or_removed_objects_are_read_again(bucket: Objects, tmp_path: Path) -> None:
    source = opened(bucket, tmp_path)
    read_all(source, bucket.contents)
    for path in (tmp_path / "units").rglob("objects"):
        size = path.stat().st_size
        os.truncate(path, size // 2)  # as a crash may leave it: marks without objects
        os.truncate(path, size)
        os.utime(path, (1, 1))
    bucket.asked.clear()
    read_all(opened(bucket, tmp_path), bucket.contents)
    assert 200 < len(bucket.asked) < len(bucket.contents)
    for path in (tmp_path / "units").rglob("objects"):
        path.unlink()  # by force: whoever has it open goes on with it
    read_all(source, bucket.contents)
    bucket.asked.clear()
    read_all(opened(bucket, tmp_path), bucket.contents)
    assert sorted(bucket.asked) == sorted(bucket.contents)


def test_forked_processes_and_threads_fill_one_cache(bucket: Objects, tmp_path: Path) -> None:
    source = opened(bucket, tmp_path)
    files = source.files()
    assert source.read(files[:10])
    children = []
    for part in range(2):
        child = os.fork()
        if not child:
            code = 1
            try:
                starts = range(50 * part, len(files), 100)
                with ThreadPoolExecutor(4) as pool:
                    list(pool.map(lambda n: source.read(files[n : n + 50]), starts))
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0]
    bucket.asked.clear()
    read_all(source, bucket.contents)
    assert not bucket.asked


def test_a_cache_that_is_full_or_cannot_be_written_only_costs_time(
    bucket: Objects, tmp_path: Path
) -> None:
    small = opened(bucket, tmp_path / "small", capacity=1000)
    for _ in range(2):
        read_all(small, bucket.contents)
    assert len(bucket.asked) == 2 * len(bucket.contents)
    (tmp_path / "file").touch()
    read_all(opened(bucket, tmp_path / "file/cache", 10**8), bucket.contents)


def test_large_objects_take_no_room_of_the_small(tmp_path: Path) -> None:
    files = [DataFile("a", 10), DataFile("b", 10**12), DataFile("c", 7)]
    bundles = Bundles(Cache(tmp_path, 10**6), "link", files)
    bundles.keep([files[0], files[2]], [b"0123456789", b"seventh"])
    assert [bundles.read(file) for file in files] == [b"0123456789", None, b"seventh"]
