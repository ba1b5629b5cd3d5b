"""Datasets through `pf`, in a pipe."""

from __future__ import annotations

import os
import re
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tutorial import tutorial_panels

import periflow_sdk as pf
from periflow_cli.listing import look
from periflow_cli.tree import Leaf, collapse
from periflow_sdk.api import models as m
from periflow_sdk.data import stream
from periflow_sdk.data.cache import node_cache


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """The tutorial's folder, a thousand times smaller."""
    folder = tmp_path / "cifar100" / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, size in (("meta", 1500), ("test", 31_000), ("train", 155_200)):
        (folder / name).write_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
    return folder.parent


def _paths(shell, name: str) -> list[str]:
    return [file["path"] for file in shell.json("dataset", "view", name)["files"]]


def test_trailing_slash_means_the_contents(settled, cifar: Path) -> None:
    below = cifar / "cifar-100-python"
    settled.pf("dataset", "upload", "-n", "folder", "-p", below)
    settled.pf("dataset", "upload", "-n", "contents", "-p", f"{below}/")
    names = ["meta", "test", "train"]
    assert _paths(settled, "contents") == names
    assert _paths(settled, "folder") == [f"cifar-100-python/{name}" for name in names]


def test_piped_view_is_plain_lines(settled, cifar: Path) -> None:
    settled.pf("dataset", "upload", "-n", "plain", "-p", f"{cifar}/")
    assert settled.pf("dataset", "view", "plain") == (
        "Overview\nName\tplain\nCloud\tfai\nRegion\t-\nStorage Name\t-\nActive\tY\n\n"
        "Files\ncifar-100-python/meta (1.5 kB)\ncifar-100-python/test (31.0 kB)\n"
        "cifar-100-python/train (155.2 kB)\n\nMetadata\n{}\n"
    )


def test_list_is_an_array_and_tab_separated_lines(settled, cifar: Path) -> None:
    settled.pf("dataset", "upload", "-n", "listed", "-p", cifar)
    assert "listed" in [each["name"] for each in settled.json("dataset", "list")]
    lines = settled.pf("dataset", "list").splitlines()
    assert lines[0] == "Name\tCloud\tRegion\tStorage Name\tActive"
    assert "listed\tfai\t-\t-\tY" in lines


def test_taken_name_is_refused_before_anything_is_sent(settled, cifar: Path) -> None:
    settled.pf("dataset", "upload", "-n", "taken", "-p", cifar)
    other = cifar / "new"
    other.write_bytes(b"never sent before" * 1000)
    done = settled.run("dataset", "upload", "-n", "taken", "-p", other)
    assert done.returncode == 5
    assert "taken" in done.stderr and "Uploaded" not in done.stdout
    dry = settled.run("dataset", "upload", "-n", "taken", "-p", other, "--dry-run")
    assert (dry.returncode, dry.stderr) == (5, done.stderr)


def test_unknown_dataset_gets_the_nearest_name(settled, cifar: Path) -> None:
    settled.pf("dataset", "upload", "-n", "handwriting", "-p", cifar)
    for words in (("view", "handwritin"), ("delete", "-y", "handwritin")):
        done = settled.run("dataset", *words)
        assert (done.returncode, done.stdout) == (3, "")
        assert "'handwritin'" in done.stderr
        assert "Did you mean handwriting?" in done.stderr and "pf dataset list" in done.stderr


@pytest.mark.parametrize("name", ["..", "../datasets", "a/b", "a?b", "%2e%2e"])
def test_odd_names_are_just_unknown(settled, name: str) -> None:
    done = settled.run("dataset", "view", name)
    assert done.returncode == 3 and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("-n", "two words", "-p", "."), "'two words' is not a dataset name"),
        (("-n", "gone", "-p", "nowhere"), "nowhere"),
        (("-n", "gone"), "--path"),
        (("-n", "gone", "-p", ""), "-p is empty"),
    ],
)
def test_wrong_upload_is_a_usage_error(settled, words, said: str) -> None:
    done = settled.run("dataset", "upload", *words)
    assert done.returncode == 2
    assert said in done.stderr


def test_upload_is_one_line_and_view_says_how_to_use_it(settled, cifar: Path) -> None:
    done = settled.run("dataset", "upload", "-n", "once", "-p", cifar)
    assert len(done.stdout.splitlines()) == 1 and done.stderr == "Hint: pf dataset view once\n"
    assert done.stdout.startswith("Uploaded dataset once: 187.7 kB in 3 files in ")
    hint = settled.run("dataset", "view", "once").stderr
    assert "187.7 kB in 3 files" in hint and "data: {name: once, mount_path: /" in hint


def test_folder_without_files_is_uploaded_with_a_warning(settled, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = settled.run("dataset", "upload", "-n", "empty", "-p", tmp_path / "empty")
    assert done.returncode == 0
    assert f"Warning: {tmp_path}/empty has no files." in done.stderr


def test_link_that_leads_out_is_a_usage_error(settled, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    done = settled.run("dataset", "upload", "-n", "linked", "-p", f"{tmp_path}/")
    assert done.returncode == 2
    assert "link" in done.stderr and ".pfignore" not in done.stderr


def test_dry_run_shows_and_sends_nothing(settled, cifar: Path) -> None:
    document = settled.json("dataset", "upload", "-n", "dry", "-p", cifar, "--dry-run")
    assert (document["file_count"], document["size"]) == (3, 187_700)
    assert settled.run("dataset", "view", "dry").returncode == 3


def test_delete_asks_and_takes_several(settled, cifar: Path) -> None:
    for name in ("old-1", "old-2"):
        settled.pf("dataset", "upload", "-n", name, "-p", cifar)
    asked = settled.run("dataset", "delete", "old-1", "old-2")
    assert asked.returncode == 2 and "--yes" in asked.stderr
    shown = settled.json("dataset", "delete", "old-1", "old-2", "--dry-run")
    gone = settled.json("dataset", "delete", "old-1", "old-2", "-f")
    assert shown == gone
    assert [each["name"] for each in gone] == ["old-1", "old-2"]
    assert not {"old-1", "old-2"} & {each["name"] for each in settled.json("dataset", "list")}


def test_piped_output_has_no_escape_codes(settled, cifar: Path) -> None:
    upload = settled.run("dataset", "upload", "-n", "sober", "-p", cifar)
    view = settled.run("dataset", "view", "sober")
    for text in (upload.stdout, upload.stderr, view.stdout, view.stderr):
        assert "\x1b" not in text and "\r" not in text


def test_tutorials_folder_is_shown_as_the_tutorial_prints_it(settled, tmp_path: Path) -> None:
    folder = tmp_path / "cifar100" / "cifar-100-python"
    folder.mkdir(parents=True)
    for name, size in (("meta", 1_500), ("test", 31_000_000), ("train", 155_200_000)):
        with (folder / name).open("wb") as file:
            file.truncate(size)
    for name, path in (("my-cifar-100", folder), ("its-contents", f"{tmp_path}/cifar100/")):
        settled.pf("dataset", "upload", "-n", name, "-p", path)
        terminal = settled.on_terminal("dataset", "view", name, columns=80)
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.read()).replace("\r", "")
        assert text.partition("Hint:")[0] == tutorial_panels(name)


def test_new_version_sends_only_what_changed_and_the_old_one_stays(settled, cifar: Path) -> None:
    # Smaller files share chunks, and go again with their neighbours.
    (cifar / "images").write_bytes(os.urandom(20_000_000))
    settled.pf("dataset", "upload", "-n", "grown", "-p", f"{cifar}/")
    assert settled.run("dataset", "upload", "-n", "grown", "-p", f"{cifar}/").returncode == 5
    (cifar / "extra").write_bytes(b"more" * 1000)
    words = ("dataset", "upload", "-n", "grown", "-p", f"{cifar}/", "--new-version")
    said = settled.pf(*words)
    assert said.startswith("Uploaded dataset grown version 2: 20.2 MB in 5 files in ")
    assert "20.0 MB of it was there already" in said
    again = settled.pf(*words)
    assert again == "No file has changed: dataset grown stays version 2, 20.2 MB in 5 files.\n"
    found = settled.json("dataset", "view", "grown")
    assert [each["version"] for each in found["versions"]] == [2, 1]
    (cifar / "extra").write_bytes(b"other")
    (cifar / "images").rename(cifar / "renamed")
    changes = "Beside version 2: 1 file new, 1 gone, 1 of another size;"
    assert changes in settled.run(*words, "--dry-run").stderr
    assert len(found["files"]) == 5
    old = settled.pf("dataset", "view", "grown", "--version", 1)
    assert "extra" not in old and "Version\t1 of 2" in old and "Versions\n2\t20.2 MB" in old
    settled.pf("dataset", "download", "grown", "--version", 1, "-d", cifar / "old")
    assert sorted(path.name for path in (cifar / "old").rglob("*") if path.is_file()) == [
        "images",
        "meta",
        "test",
        "train",
    ]
    assert settled.run("dataset", "view", "grown", "--version", 3).returncode == 3
    missing = settled.run("dataset", "upload", "-n", "grow", "-p", cifar, "--new-version")
    assert missing.returncode == 3 and "grown" in missing.stderr


def test_downloaded_dataset_is_what_was_uploaded(settled, cifar: Path, tmp_path: Path) -> None:
    settled.pf("dataset", "upload", "-n", "back", "-p", f"{cifar}/")
    settled.pf("dataset", "download", "back", "-d", tmp_path / "back", "--dry-run")
    assert not (tmp_path / "back").exists()
    settled.pf("dataset", "download", "back", "-d", tmp_path / "back")
    for name in ("meta", "test", "train"):
        path = Path("cifar-100-python") / name
        assert (tmp_path / "back" / path).read_bytes() == (cifar / path).read_bytes()
    assert settled.run("dataset", "download", "back", "-d", tmp_path / "back").returncode == 5
    # A folder that is there may be a mounted disk, or the one that the shell stands in.
    there = tmp_path / "there"
    there.mkdir()
    before = there.stat().st_ino
    settled.pf("dataset", "download", "back", "-d", f"{there}/.")
    assert there.stat().st_ino == before and [each.name for each in there.iterdir()] == [
        "cifar-100-python"
    ]


def test_name_of_a_file_is_one_line_and_moves_no_cursor(settled, tmp_path: Path) -> None:
    (tmp_path / "a\nb\x1b[2J").write_text("x")
    settled.pf("dataset", "upload", "-n", "controls", "-p", f"{tmp_path}/")
    assert r"a\nb\x1b[2J (1 byte)" in settled.pf("dataset", "view", "controls").splitlines()
    assert r"a\nb\x1b[2J (1 byte)" in settled.on_terminal("dataset", "view", "controls").read()
    assert _paths(settled, "controls") == ["a\nb\x1b[2J"]


@pytest.mark.parametrize("path", ["nowhere", "meta"])
def test_path_that_is_no_folder_is_not_found(settled, cifar: Path, path: str) -> None:
    name = f"deep-{path}"
    settled.pf("dataset", "upload", "-n", name, "-p", f"{cifar / 'cifar-100-python'}/")
    for form in ((), ("--json",)):
        done = settled.run("dataset", "view", name, "--path", path, *form)
        assert (done.returncode, done.stdout) == (3, "")
        assert f"pf dataset view {name}" in done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: 1\nb: [1, 2\nc: : x", "meta.yml:3:2 "), (f"a: {'x' * 100_000}", "larger than 100.0 kB")],
)
def test_wrong_metadata_is_refused_with_its_place(
    settled, cifar: Path, text: str, said: str
) -> None:
    (cifar / "meta.yml").write_text(text)
    done = settled.run("dataset", "upload", "-n", "m", "-p", cifar, "-f", cifar / "meta.yml")
    assert done.returncode == 2 and said in done.stderr


def test_large_tree_is_collapsed_from_the_top_down() -> None:
    leaves = [
        Leaf(f"{split}/{n // 100:02}/{n:04}.png", 1000, "1.0 kB")
        for split in ("test", "train")
        for n in range(5000)
    ]
    entries, is_collapsed = collapse([Leaf("readme", 10, "10 bytes"), *leaves])
    assert is_collapsed and len(entries) <= 66
    assert ("test", None) in entries and ("readme", "10 bytes") in entries
    assert ("test/00/", "100 files, 100.0 kB") in entries or ("test/00", None) in entries
    hidden = [path for path, _ in entries if "… " in path]
    assert "test/… 30 more folders, 3,000 more files" in hidden
    few = [Leaf(f"a/{n}", 1, "1 byte") for n in range(30)]
    assert collapse(few) == ([(leaf.path, leaf.note) for leaf in few], False)


def test_folder_of_a_large_bucket_says_at_its_end_that_it_has_more() -> None:
    def page(_: str, __: str, path: str, *, recursive: bool = False, limit: int) -> m.DatasetPage:
        folders = [m.DatasetFolder(path=f"a/{n:02}") for n in range(20)]
        files = [m.DatasetFile(path=f"{path}/x", size=1)]
        items = {"": [m.DatasetFolder(path="a")], "a": folders}.get(path, files)
        has_more = recursive or path == "a"
        return m.DatasetPage(items=[*items], next_cursor="more" if has_more else None)

    client = SimpleNamespace(dataset_page=page)
    connection: Any = SimpleNamespace(client=client, project=SimpleNamespace(id="p"))
    found = look(connection, cast("Any", SimpleNamespace(id="d")), "", as_tree=True)
    assert found.entries[0] == ("a", None) and found.entries[-1] == ("a/… and more", "")
    assert ("a/00/x", "1 byte") in found.entries and ("a/19/", "…") in found.entries


def test_packed_upload_stores_shards_that_are_streamed(
    settled, cifar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {}
    for number in range(2000):
        path = cifar / f"{number % 3}/{number:04}.txt"
        path.parent.mkdir(exist_ok=True)
        content[f"{number % 3}/{number:04}"] = (f"{number} " * 2000).encode()[:10_000]
        path.write_bytes(content[f"{number % 3}/{number:04}"])
    words = ("dataset", "upload", "-n", "packed", "-p", f"{cifar}/", "--pack")
    assert "3 shards with 2003 samples" in settled.run(*words, "--dry-run").stderr
    assert re.fullmatch(r"Uploaded dataset packed: 1\d\.\d MB in 4 files .*\n", settled.pf(*words))
    shards = [f"shard-{n:05}.tar" for n in range(3)]
    assert _paths(settled, "packed") == ["index.json", *shards]
    view = settled.pf("dataset", "view", "packed")
    sizes = [float(size) for size in re.findall(r"^shard-\d{5}\.tar \((\S+) MB\)$", view, re.M)]
    assert len(sizes) == 3 and max(sizes) < 13.5, view

    monkeypatch.setenv("PERIFLOW_HOME", str(settled.home))
    monkeypatch.setenv("PERIFLOW_CACHE_DIR", str(tmp_path / "cache"))
    node_cache.cache_clear()
    dataset = pf.dataset("packed")
    assert [file.path for file in dataset.files] == ["index.json", *shards]
    with dataset.open(shards[1]) as file, tarfile.open(fileobj=file) as tar:
        inside = [name for name in tar.getnames() if name.endswith(".txt")]
        assert len(inside) > 300 and {name[0] for name in inside} == {"0", "1", "2"}
    samples = {each["__key__"]: each for each in stream("packed", shuffle=True)}
    assert {key: each["txt"] for key, each in samples.items() if "txt" in each} == content
    node_cache.cache_clear()

    (cifar / "0/0000.txt").write_text("changed")
    again = settled.pf(*words, "--new-version")
    assert again.startswith("Uploaded dataset packed version 2: ") and "was there already" in again
    assert not list((settled.home / "cache/packs").iterdir())
