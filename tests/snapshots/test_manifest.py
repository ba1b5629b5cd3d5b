"""A manifest from others is believed in nothing."""

from __future__ import annotations

import json

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from periflow_sdk.errors import IntegrityError, PeriFlowError, UnsafePathError
from periflow_sdk.snapshots.manifest import (
    MAX_CHUNK_BYTES,
    Chunk,
    DirEntry,
    Extent,
    FileEntry,
    LinkEntry,
    Manifest,
    joined_hash,
)
from periflow_sdk.snapshots.path import check_link, check_path

HASH = "ab" * 32
GOOD = Manifest(
    (Chunk(HASH, 10),),
    (
        DirEntry("dir", 0o700),
        FileEntry("dir/파일", 7, 0o755, HASH, (Extent(0, 3, 7),)),
        FileEntry("empty", 0, 0o644, HASH, ()),
        LinkEntry("link", "dir/파일"),
    ),
)


def changed(**changes: object) -> bytes:
    """The good manifest with fields of its first file changed."""
    document = json.loads(GOOD.to_bytes())
    document["entries"][1].update(changes)
    return canonical(document)


def canonical(document: object) -> bytes:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode(errors="surrogatepass")


def test_a_manifest_reads_back_as_itself_and_is_named_by_its_bytes() -> None:
    assert Manifest.parse(GOOD.to_bytes()) == GOOD
    assert GOOD.id == blake3(GOOD.to_bytes()).hexdigest()
    assert (GOOD.size, GOOD.file_count) == (7, 2)


@pytest.mark.parametrize(
    "path",
    (
        *("", ".", "..", "/a", "../a", "a/../../b", "a//b", "a/", "./a", "a\0b", "a\\..\\b"),
        *("x" * 256, "/".join(["y" * 200] * 30), "\ud800"),
    ),
)
def test_paths_that_could_leave_or_break_are_refused(path) -> None:
    with pytest.raises(UnsafePathError):
        check_path(path)
    with pytest.raises(PeriFlowError):
        Manifest.parse(changed(path=path))


@pytest.mark.parametrize("path", ["a", "a/b", "...", "..a/b..", " ", "Ünï/☂", "new\nline", "-rf"])
def test_odd_but_harmless_paths_pass(path) -> None:
    check_path(path)


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("l", "/etc"),
        ("l", ".."),
        ("d/l", "../.."),
        ("d/l", "../../d"),
        ("l", ""),
        ("l", "a\0"),
        # Where `d/back` links to the top, this would be the folder above it.
        ("d/l", "back/.."),
        ("l", "a/../b"),
    ],
)
def test_links_that_could_lead_out_are_refused(path, target) -> None:
    with pytest.raises(UnsafePathError):
        check_link(path, target)


@pytest.mark.parametrize(("path", "target"), [("l", "."), ("d/l", ".."), ("a/b/l", "../../x/y")])
def test_links_that_stay_inside_pass(path, target) -> None:
    check_link(path, target)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 100_000,
        GOOD.to_bytes() + b"\n",
        GOOD.to_bytes().replace(b'"version":1', b'"version":2'),
        GOOD.to_bytes().replace(b'"version":1', b'"version":true'),
        changed(size=8),
        changed(size=-7),
        changed(size=7.0),
        changed(mode=0o4755),
        changed(mode=True),
        changed(hash="no"),
        changed(type="device"),
        changed(extra=1),
        changed(extents=[[1, 0, 7]]),
        changed(extents=[[-1, 0, 7]]),
        changed(extents=[[0, 4, 7]]),
        changed(extents=[[0, -1, 7]]),
        changed(extents=[[0, 3, 8], [0, 3, -1]]),
        changed(extents=[[0, 0]]),
        changed(path="zzz"),
        changed(path="dir"),
    ],
)
def test_what_is_no_whole_canonical_manifest_is_refused(data) -> None:
    with pytest.raises(IntegrityError):
        Manifest.parse(data)


@pytest.mark.parametrize(
    "chunks",
    [
        [[HASH, 0]],
        [[HASH, MAX_CHUNK_BYTES + 1]],
        [["AB" * 32, 10]],
        [[HASH, 10], [HASH, 10]],
        [["../" + HASH[3:], 10]],
    ],
)
def test_wrong_chunks_are_refused(chunks) -> None:
    document = json.loads(GOOD.to_bytes())
    document["chunks"] = chunks
    with pytest.raises(IntegrityError):
        Manifest.parse(canonical(document))


def test_nothing_lies_below_a_file_or_a_link() -> None:
    for top in (FileEntry("a", 0, 0o644, HASH, ()), LinkEntry("a", "b")):
        manifest = Manifest((), (top, FileEntry("a/b/c", 0, 0o644, HASH, ())))
        with pytest.raises(UnsafePathError):
            Manifest.parse(manifest.to_bytes())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=10,
)


@given(JSON, JSON)
def test_no_document_breaks_the_reader(chunks, entries) -> None:
    with pytest.raises(PeriFlowError):
        Manifest.parse(canonical({"version": 1, "chunks": chunks, "entries": [entries]}))


def test_a_file_of_several_chunks_is_named_by_them_and_not_as_their_list_would_be() -> None:
    chunks = [Chunk(blake3(bytes([number])).hexdigest(), 1 + number) for number in range(3)]
    names = {joined_hash(each) for each in (chunks, chunks[:2], chunks[::-1])}
    assert len(names) == 3
    lines = "".join(f"{chunk.hash} {chunk.size}\n" for chunk in chunks)
    assert blake3(lines.encode()).hexdigest() not in names
