"""The cache of a machine: fetched once, kept below its limit, never taken from who uses it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from periflow_sdk.data.cache import Cache
from periflow_sdk.data.partial import PartialFile
from periflow_sdk.environment import cache_environment
from periflow_sdk.errors import PeriFlowError, UsageError

SIZE = 100_000


def filler(size: int = SIZE) -> Callable[[Path], None]:
    def fill(target: Path) -> None:
        temporary = target.with_name(".part")
        temporary.write_bytes(b"x" * size)
        temporary.rename(target)

    return fill


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


FETCHING = """
    import os, sys, time
    from pathlib import Path
    from periflow_sdk.data.cache import Cache
    folder, log = Path(sys.argv[1]), Path(sys.argv[2])

    def fill(target):
        with log.open("a") as file:
            file.write("fetched\\n")
        sys.stdin.readline()
        target.with_name(".part").write_text("content")
        target.with_name(".part").rename(target)

    print("ready", flush=True)
    print(Cache(folder, 10**9).obtain("key", "name.txt", 7, fill).read_text(), flush=True)
"""


def test_two_processes_that_ask_at_once_fetch_once(tmp_path: Path) -> None:
    both = [start(FETCHING, tmp_path / "cache", tmp_path / "log") for _ in range(2)]
    for process in both:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    outputs = []
    for process in both:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in both:
        outputs.append(process.communicate(timeout=200)[0])
    assert outputs == ["content\n", "content\n"]
    assert (tmp_path / "log").read_text() == "fetched\n"


def test_fetch_goes_on_where_a_killed_one_stopped(tmp_path: Path) -> None:
    killed = start(FETCHING, tmp_path / "cache", tmp_path / "log")
    while not (tmp_path / "log").exists():
        assert killed.poll() is None
    killed.kill()
    killed.wait(90)
    found = Cache(tmp_path / "cache", 10**9).obtain("key", "name.txt", SIZE, filler())
    assert found.stat().st_size == SIZE  # its lock went with the process

    target, content = tmp_path / "large", bytes(range(250))
    part = PartialFile(target, 250, [0, 100, 200])
    part.__enter__()
    part.write(100, memoryview(content)[100:200])
    with (tmp_path / ".large.parts").open("ab") as state:
        state.write(b"20")  # torn by the kill
    with PartialFile(target, 250, [0, 100, 200]) as again:
        assert again.missing == [(0, 100), (200, 250)]
        for first, last in again.missing:
            again.write(first, memoryview(content)[first:last])
    assert target.read_bytes() == content
    assert sorted(path.name for path in tmp_path.glob(".large*")) == []


def test_what_a_crash_of_the_machine_cut_short_is_fetched_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache", 10**9)
    fetched: list[str] = []

    def fill_folder(target: Path) -> None:
        fetched.append(target.name)
        (target / "deep").mkdir(parents=True)
        for name in ("a", "deep/b"):
            (target / name).write_bytes(b"x" * SIZE)

    file = cache.obtain("aa-file", "file", SIZE, filler())
    tree = cache.obtain("bb-tree", "tree", 2 * SIZE, fill_folder)
    # Names reach the disk before what they name does: files come back short, or empty.
    os.truncate(file, 0)
    assert cache.find("aa-file", "file", SIZE) is None
    assert cache.obtain("aa-file", "file", SIZE, filler()).stat().st_size == SIZE
    # Those whose size was set in advance keep it, and have a hole where bytes were on their way.
    for damaged in (SIZE, 0):
        os.truncate(file, 0)
        os.truncate(file, damaged)
        os.utime(file, (1, 1))
        assert cache.find("aa-file", "file", damaged) is None
        assert cache.find("aa-file", "file", damaged, is_sparse=True) == (file if damaged else None)
        os.utime(file, (1, 1))
        assert cache.obtain("aa-file", "file", damaged, filler()).read_bytes().strip(b"\0")
    os.utime(file, (1, 1))
    assert cache.find("aa-file", "file", SIZE) == file
    record = tree.parent / ".size"
    record.write_text(f"{2 * SIZE} an-earlier-start-of-the-machine")
    assert cache.obtain("bb-tree", "tree", 2 * SIZE, fill_folder) == tree
    assert fetched == ["tree"]
    earlier = f"{2 * SIZE} an-earlier-start-of-the-machine"
    for size, damage in ((10, earlier), (10, ""), (SIZE, earlier)):
        os.truncate(tree / "deep/b", 0)
        os.truncate(tree / "deep/b", size)
        record.write_text(damage)
        assert cache.find("bb-tree", "tree") is None
        assert cache.obtain("bb-tree", "tree", 2 * SIZE, fill_folder) == tree
        assert (tree / "deep/b").read_bytes() == b"x" * SIZE
    assert fetched == ["tree"] * 4


HOLDING = """
    import sys
    from pathlib import Path
    from periflow_sdk.data.cache import Cache
    print(Cache(Path(sys.argv[1])).find("aa", "file"), flush=True)
    sys.stdin.read()
"""


def test_longest_unused_goes_and_what_is_in_use_stays(tmp_path: Path) -> None:
    writer = """
        import os, sys, time
        from pathlib import Path
        from periflow_sdk.data.cache import Cache
        cache = Cache(Path(sys.argv[1]), 350_000)
        for number, key in enumerate(("aa", "bb", "cc")):
            path = cache.obtain(key, "file", 100_000, lambda t: t.write_bytes(b"x" * 100_000))
            os.utime(path, (1000 + number, 1000 + number))
    """
    assert start(writer, tmp_path).wait(60) == 0
    holder = start(HOLDING, tmp_path)
    assert holder.stdout is not None and "aa" in holder.stdout.readline()
    used = tmp_path / "units/aa/aa/file"
    os.utime(used, (999, 999))  # the oldest, and still in use
    cache = Cache(tmp_path, 350_000)
    cache.obtain("dd", "file", SIZE, filler())
    names = {unit.folder.name for unit in cache.units()}
    assert names == {"aa", "cc", "dd"}
    assert cache.clear() > 0
    assert {unit.folder.name for unit in cache.units()} == {"aa", "dd"}  # dd is this process's
    holder.communicate("", timeout=200)
    cache.clear()
    assert {unit.folder.name for unit in cache.units()} == {"dd"}


def test_full_disk_makes_room_of_what_nobody_uses(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 10**9)
    leftover = tmp_path / "units/aa/aa/.file.part"
    leftover.parent.mkdir(parents=True)
    (leftover.parent / ".lock").touch()
    leftover.write_bytes(b"x" * SIZE)  # of a download that was killed

    def fill(target: Path) -> None:
        if leftover.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        filler()(target)

    assert cache.obtain("bb", "file", SIZE, fill).stat().st_size == SIZE

    def never(target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(PeriFlowError, match="is full") as caught:
        cache.obtain("cc", "file", SIZE, never)
    assert caught.value.code == "disk_full" and "pf cache clear" in str(caught.value.hint)


def test_what_is_larger_than_the_cache_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(PeriFlowError) as caught:
        Cache(tmp_path, 1000).obtain("key", "file", 5_000_000, filler())
    assert caught.value.code == "cache_too_small"
    assert "5.0 MB" in caught.value.message and "PERIFLOW_CACHE_BYTES" in str(caught.value.hint)


def test_limit_is_read_with_its_unit() -> None:
    said = {"PERIFLOW_CACHE_DIR": "/c", "PERIFLOW_CACHE_BYTES": "1.5T"}
    assert cache_environment(said).capacity_bytes == 1_500_000_000_000
    assert cache_environment({"PERIFLOW_HOME": "/h"}).folder == Path("/h/cache")
    with pytest.raises(UsageError, match="no number of bytes"):
        cache_environment({"PERIFLOW_CACHE_BYTES": "lots"})
