"""Whatever goes up comes down again, bit for bit, through a real server."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from periflow_sdk.api import models as m
from periflow_sdk.errors import UsageError
from periflow_sdk.snapshots import (
    download_snapshot,
    read_manifest,
    upload,
    upload_files,
    upload_folder,
)
from periflow_sdk.snapshots.transfer import Tuning

MIB = 1024 * 1024


def write_random(path: Path, size: int) -> None:
    with path.open("wb") as file:
        for start in range(0, size, 8 * MIB):
            file.write(os.urandom(min(8 * MIB, size - start)))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with every odd thing that a user may have."""
    root = tmp_path / "Ünïcode ☂ folder"
    (root / "deep/er/still").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "private").mkdir(mode=0o700)
    (root / "private/note.txt").write_text("mine")
    (root / "zero").touch()
    (root / "deep/zero.bin").touch()
    (root / "deep/er/still/모델.pt").write_bytes(os.urandom(100_000))
    (root / "new\nline and ' quotes \"").write_text("x")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "read-only").write_text("x")
    (root / "read-only").chmod(0o444)
    (root / "a-b").write_text("sorts between a and a/")
    (root / "a").mkdir()
    (root / "a/b").write_text("b")
    (root / "current").symlink_to("deep/er")
    (root / "deep/up").symlink_to("../run.sh")
    (root / "dangling").symlink_to("nowhere")
    write_random(root / "large.bin", 37 * MIB + 5)
    write_random(root / "just-one-chunk.bin", 16 * MIB)
    (root / "blank.bin").write_bytes(bytes(33 * MIB))
    return root


def test_every_odd_thing_survives(place, source, tmp_path, listing, tally) -> None:
    snapshot = upload_folder(place.client, place.project, source, keep_name=False, progress=tally)
    assert tally.sent + tally.kept == tally.size == snapshot.size
    manifest = download_snapshot(place.client, place.project, snapshot.id, tmp_path / "back")
    assert listing(tmp_path / "back") == listing(source)
    assert manifest.id == snapshot.id
    assert snapshot.file_count == manifest.file_count == 12
    assert not (tmp_path / ".back.part").exists()


def test_a_narrow_umask_changes_no_mode(place, source, tmp_path, listing) -> None:
    snapshot = upload_folder(place.client, place.project, source, keep_name=False)
    before = os.umask(0o077)
    try:
        download_snapshot(place.client, place.project, snapshot.id, tmp_path / "back")
    finally:
        os.umask(before)
    assert listing(tmp_path / "back") == listing(source)
    assert stat.S_IMODE((tmp_path / "back").stat().st_mode) == 0o700


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=12
).filter(lambda name: name not in (".", ".."))
CONTENTS = st.binary(max_size=300) | st.builds(
    lambda seed, size: (seed * (size // len(seed) + 1))[:size],
    st.binary(min_size=1, max_size=40),
    st.sampled_from([4 * MIB - 1, 4 * MIB, 4 * MIB + 1, 17 * MIB]),
)
TREES = st.recursive(
    st.tuples(CONTENTS, st.sampled_from([0o644, 0o755, 0o600, 0o444])),
    lambda children: st.dictionaries(NAMES, children, max_size=5),
    max_leaves=12,
).filter(lambda tree: isinstance(tree, dict))


def grow(root: Path, tree: dict) -> None:
    root.mkdir()
    for name, child in tree.items():
        if isinstance(child, dict):
            grow(root / name, child)
        else:
            (root / name).write_bytes(child[0])
            (root / name).chmod(child[1])


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(tree=TREES)
def test_any_tree_survives(place, listing, tmp_path_factory, tree) -> None:
    folder = tmp_path_factory.mktemp("tree")
    grow(folder / "there", tree)
    snapshot = upload_folder(place.client, place.project, folder / "there", keep_name=False)
    download_snapshot(place.client, place.project, snapshot.id, folder / "back")
    assert listing(folder / "back") == listing(folder / "there")


def test_an_empty_folder_is_a_snapshot(place, tmp_path) -> None:
    (tmp_path / "nothing").mkdir()
    bare = upload_folder(place.client, place.project, tmp_path / "nothing", keep_name=False)
    named = upload_folder(place.client, place.project, tmp_path / "nothing", keep_name=True)
    download_snapshot(place.client, place.project, bare.id, tmp_path / "bare")
    download_snapshot(place.client, place.project, named.id, tmp_path / "named")
    assert list((tmp_path / "bare").iterdir()) == []
    assert [path.name for path in (tmp_path / "named").iterdir()] == ["nothing"]


def test_the_name_is_kept_or_left(place, tmp_path) -> None:
    (tmp_path / "cifar").mkdir()
    (tmp_path / "cifar/main.py").write_text("pass")
    kept = upload_folder(place.client, place.project, tmp_path / "cifar", keep_name=True)
    left = upload_folder(place.client, place.project, tmp_path / "cifar", keep_name=False)
    paths = [
        [entry.path for entry in read_manifest(place.client, place.project, one.id).entries]
        for one in (kept, left)
    ]
    assert paths == [["cifar/main.py"], ["main.py"]]


def test_the_current_folder_keeps_its_real_name(place, tmp_path, monkeypatch) -> None:
    (tmp_path / "cifar").mkdir()
    (tmp_path / "cifar/main.py").write_text("pass")
    monkeypatch.chdir(tmp_path / "cifar")
    snapshot = upload_folder(place.client, place.project, Path(), keep_name=True)
    (entry,) = read_manifest(place.client, place.project, snapshot.id).entries
    assert entry.path == "cifar/main.py"


def test_a_single_file_is_a_source(place, tmp_path) -> None:
    (tmp_path / "data.csv").write_text("1,2")
    snapshot = upload_folder(place.client, place.project, tmp_path / "data.csv", keep_name=False)
    download_snapshot(place.client, place.project, snapshot.id, tmp_path / "back")
    assert (tmp_path / "back/data.csv").read_text() == "1,2"


def test_files_from_several_places_become_one_snapshot(place, tmp_path) -> None:
    (tmp_path / "one").write_text("1")
    (tmp_path / "two").write_text("2")
    files = {"b/rank1.pt": tmp_path / "two", "a/rank0.pt": tmp_path / "one"}
    snapshot = upload_files(place.client, place.project, files)
    download_snapshot(place.client, place.project, snapshot.id, tmp_path / "back")
    assert (tmp_path / "back/a/rank0.pt").read_text() == "1"
    assert (tmp_path / "back/b/rank1.pt").read_text() == "2"


def test_a_target_with_something_in_it_is_refused_untouched(place, tmp_path) -> None:
    (tmp_path / "file").write_text("x")
    snapshot = upload_folder(place.client, place.project, tmp_path / "file", keep_name=False)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/own").write_text("precious")
    with pytest.raises(UsageError) as caught:
        download_snapshot(place.client, place.project, snapshot.id, tmp_path / "mine")
    assert caught.value.code == "target_exists"
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["own"]
    (tmp_path / "mine/own").unlink()
    download_snapshot(place.client, place.project, snapshot.id, tmp_path / "mine")
    assert (tmp_path / "mine/file").read_text() == "x"


def test_many_small_files_travel_in_few_chunks(place, tmp_path, listing) -> None:
    root = make_many(tmp_path / "many", 2000)
    snapshot = upload_folder(place.client, place.project, root, keep_name=False)
    assert len(place.stored()) < 40
    download_snapshot(place.client, place.project, snapshot.id, tmp_path / "back")
    assert listing(tmp_path / "back") == listing(root)


def test_one_changed_file_sends_one_chunk_again(place, tmp_path, tally) -> None:
    root = make_many(tmp_path / "many", 2000)
    upload_folder(place.client, place.project, root, keep_name=False)
    before = place.stored()
    (root / "07/777").write_bytes(os.urandom(12_345))
    (root / "07/new").write_bytes(os.urandom(11))
    upload_folder(place.client, place.project, root, keep_name=False, progress=tally)
    assert len(place.stored() - before) <= 2
    assert tally.sent < tally.size


def make_many(root: Path, count: int) -> Path:
    for number in range(count):
        path = root / f"{number // 100:02}" / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(10_000))
    return root


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_twenty_thousand_files_survive(place, tmp_path, listing) -> None:
    root = make_many(tmp_path / "many", 20_000)
    snapshot = upload_folder(place.client, place.project, root, keep_name=True)
    assert snapshot.file_count == 20_000
    download_snapshot(place.client, place.project, snapshot.id, tmp_path / "back")
    assert listing(tmp_path / "back/many") == listing(root)


MEMORY = """
import resource, sys
from pathlib import Path
from periflow_sdk.api.client import ApiClient
from periflow_sdk.snapshots import download_snapshot, upload_files, upload_folder
import periflow_sdk.snapshots.download, periflow_sdk.snapshots.upload
url, token, project, source, target, paths = sys.argv[1:]
if paths == "no":
    import periflow_sdk.snapshots.download as d, periflow_sdk.snapshots.upload as u
    d.local_chunk = u.local_chunk = lambda *_: None
with ApiClient(url, token) as client:
    client.me()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    snapshot = upload_folder(client, project, Path(source), keep_name=False)
    download_snapshot(client, project, snapshot.id, Path(target))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def check_large_file(place, tmp_path, start_process, listing, size: int) -> None:
    root = tmp_path / "large"
    root.mkdir()
    write_random(root / "weights.bin", size)
    paths = "yes" if type(place.client).__name__ == "ApiClient" else "no"
    process = start_process(
        MEMORY,
        place.client.url,
        place.client._token(),
        place.project,
        root,
        tmp_path / "back",
        paths,
    )
    output, complaint = process.communicate(timeout=800)
    assert process.returncode == 0, complaint.decode()
    assert listing(tmp_path / "back") == listing(root)
    assert int(output) < 160_000, "kB of memory were added"


def test_a_large_file_needs_little_memory(place, tmp_path, start_process, listing) -> None:
    check_large_file(place, tmp_path, start_process, listing, 200 * MIB)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_five_gigabytes_need_little_memory(place, tmp_path, start_process, listing) -> None:
    check_large_file(place, tmp_path, start_process, listing, 5_000_000_000)


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A folder of 20 chunks."""
    root = tmp_path / "many"
    root.mkdir()
    for number in range(20):
        (root / f"{number}.bin").write_bytes(bytes([number]) * (4 * MIB))
    return root


@pytest.fixture
def at_read(monkeypatch) -> Callable[[int, Callable[[], object]], None]:
    """Do something as soon as so many chunks are read."""

    def arrange(number: int, act: Callable[[], object]) -> None:
        read, count = upload.read_cut, itertools.count(1)

        def read_one(*arguments: Any) -> list[str]:
            hashes = read(*arguments)
            if next(count) == number:
                act()
            return hashes

        monkeypatch.setattr(upload, "read_cut", read_one)

    return arrange


def test_the_first_chunk_is_asked_about_alone_and_the_rest_by_fours_however_slow_the_store(
    small_server, small_client, many, at_read, monkeypatch
) -> None:
    asked: list[int] = []
    ask = small_client.missing_chunks

    def missing_chunks(project: str, chunks: list[m.ChunkRef]) -> list[m.ChunkLocation]:
        asked.append(len(chunks))
        return ask(project, chunks)

    monkeypatch.setattr(small_client, "missing_chunks", missing_chunks)
    small_server.hold_after(0)
    at_read(8, lambda: small_server.let_go(pass_on=True))  # all memory is in use by then
    upload_folder(small_client, "p", many, keep_name=False)
    assert asked == [1, 2, 4, 4, 4, 4, 1]
    assert len(small_server.puts) == 20


def test_chunks_are_read_while_every_worker_waits_for_the_store(
    small_server, small_client, many, at_read
) -> None:
    sent: list[int] = []

    def let_go() -> None:
        sent.append(len(small_server.puts))
        small_server.let_go(pass_on=True)

    small_server.hold_after(2)
    at_read(5, let_go)  # into the memory of the second, behind which the third is held
    upload_folder(small_client, "p", many, keep_name=False, tuning=Tuning(workers=1, buffers=3))
    assert sent == [2]
