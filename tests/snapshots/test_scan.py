"""What of a folder is taken, what is left out, and what is refused."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest

from periflow_sdk.errors import NotFoundError, PeriFlowError, UnsafePathError
from periflow_sdk.snapshots import IgnoreRules, plan_folder, upload_files
from periflow_sdk.snapshots.chunking import cut_files
from periflow_sdk.snapshots.scan import SourceFile, Stamp


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def taken(root: Path, rules: IgnoreRules | None = None) -> list[str]:
    return [file.path for file in plan_folder(root, rules).files]


def test_without_rules_everything_is_taken(tmp_path) -> None:
    make(tmp_path, ".env", ".git/config", "__pycache__/a.pyc", "data.bin")
    (tmp_path / ".gitignore").write_text("*.bin")
    assert taken(tmp_path) == [
        ".env",
        ".git/config",
        ".gitignore",
        "__pycache__/a.pyc",
        "data.bin",
    ]


def test_caches_and_environments_are_always_left_out(tmp_path) -> None:
    make(tmp_path, "main.py", "main.pyc", ".git/config", "sub/.git", "a/__pycache__/b.pyc")
    make(tmp_path, ".mypy_cache/x", ".periflow/x", "my-env/pyvenv.cfg", "my-env/lib/x.py")
    (tmp_path / ".pfignore").write_text("!.git\n!*.pyc\n!my-env\n")
    assert taken(tmp_path, IgnoreRules()) == [".pfignore", "main.py"]


def test_both_ignore_files_count_at_every_depth(tmp_path) -> None:
    make(tmp_path, "keep.py", "a.log", "sub/b.log", "sub/keep.log", "sub/deep/c.log", "sub/x.tmp")
    make(tmp_path, "out/1", "sub/out/2", "build/3", "sub/build/4")
    (tmp_path / ".gitignore").write_text("*.log\n/out/\nbuild/\n")
    (tmp_path / "sub/.pfignore").write_text("*.tmp\n!keep.log\n")
    assert taken(tmp_path, IgnoreRules()) == [
        ".gitignore",
        "keep.py",
        "sub/.pfignore",
        "sub/keep.log",
        "sub/out/2",
    ]


def test_pfignore_has_the_last_word(tmp_path) -> None:
    make(tmp_path, "weights.bin", "notes.txt")
    (tmp_path / ".gitignore").write_text("*.bin\n")
    (tmp_path / ".pfignore").write_text("!weights.bin\nnotes.txt\n")
    assert "weights.bin" in taken(tmp_path, IgnoreRules())
    assert "notes.txt" not in taken(tmp_path, IgnoreRules())


@pytest.mark.parametrize(
    "name",
    (
        *(".env", ".env.local", "deep/.ENV", "server.pem", "id_rsa", "id_rsa.pub", "id_ed25519"),
        *(".netrc", ".aws/credentials", ".config/gcloud/x.db", ".ssh/config", ".git-credentials"),
        *("a/.kube/config", ".docker/config.json", ".pypirc", "k.key"),
    ),
)
def test_secrets_are_left_out_and_named(tmp_path, name) -> None:
    make(tmp_path, "main.py", name)
    (tmp_path / ".pfignore").write_text("!*\n")
    plan = plan_folder(tmp_path, IgnoreRules())
    assert [file.path for file in plan.files] == [".pfignore", "main.py"]
    (left,) = plan.left_out
    assert name.startswith(left.path)
    assert left.reason


def test_names_that_only_resemble_secrets_are_taken(tmp_path) -> None:
    names = ["config/main.py", "environment.py", "keys.py", "my.env.py", "token.py"]
    make(tmp_path, *names)
    plan = plan_folder(tmp_path, IgnoreRules())
    assert [file.path for file in plan.files] == names
    assert not plan.left_out


def test_the_size_is_known_before_anything_is_sent(tmp_path) -> None:
    make(tmp_path, "a", "bb")
    plan = plan_folder(tmp_path)
    assert (plan.size, plan.file_count) == (3, 2)


def test_a_missing_source_is_named(tmp_path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        plan_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "sub/../../outside"])
def test_links_that_leave_are_refused_by_name_unless_ignored(tmp_path, target) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "way-out").symlink_to(target)
    for keep_name in (True, False):
        with pytest.raises(UnsafePathError, match="way-out"):
            plan_folder(root, keep_name=keep_name)
    (root / ".pfignore").write_text("way-out")
    assert not plan_folder(root, IgnoreRules()).links


def test_a_linked_folder_is_kept_as_a_link(tmp_path) -> None:
    make(tmp_path, "real/file")
    (tmp_path / "link").symlink_to("real")
    plan = plan_folder(tmp_path)
    assert [file.path for file in plan.files] == ["real/file"]
    assert [(link.path, link.target) for link in plan.links] == [("link", "real")]


def test_a_source_that_is_a_link_is_walked_under_its_own_name(tmp_path) -> None:
    make(tmp_path, "real/file")
    (tmp_path / "data").symlink_to("real")
    (file,) = plan_folder(tmp_path / "data", keep_name=True).files
    assert file.path == "data/file"


def test_pipes_and_sockets_are_refused_by_name(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with pytest.raises(PeriFlowError, match="'pipe' is a named pipe"):
        plan_folder(tmp_path)
    Path("pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("plug")
        with pytest.raises(PeriFlowError, match="'plug' is a socket"):
            plan_folder(tmp_path)


@pytest.mark.parametrize("name", [b"caf\xe9", b"back\\slash"])
def test_names_that_cannot_be_stored_are_refused_by_name(tmp_path, name) -> None:
    (tmp_path / os.fsdecode(name)).write_text("x")
    with pytest.raises(UnsafePathError, match=name[:3].decode()):
        plan_folder(tmp_path)


@pytest.fixture
def without_privileges():
    """Root may read everything, so it becomes nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    yield
    os.seteuid(0)


def test_an_unreadable_folder_is_named(without_privileges) -> None:
    with tempfile.TemporaryDirectory() as folder:
        closed = Path(folder, "closed")
        closed.mkdir(mode=0o000)
        with pytest.raises(PeriFlowError, match="closed"):
            plan_folder(Path(folder))
        closed.chmod(0o700)


def test_single_files_may_not_be_links_or_leave(tmp_path) -> None:
    make(tmp_path, "real")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(PeriFlowError, match="'a' is a link"):
        upload_files(None, "p", {"a": tmp_path / "link"})  # type: ignore[arg-type]
    with pytest.raises(UnsafePathError):
        upload_files(None, "p", {"../a": tmp_path / "real"})  # type: ignore[arg-type]


def planned(sizes: dict[str, int]) -> list[SourceFile]:
    return [SourceFile(path, path, 0o644, Stamp(sizes[path], 0, 0, 0)) for path in sorted(sizes)]


def packs(sizes: dict[str, int]) -> set[tuple[str, ...]]:
    files = planned(sizes)
    return {tuple(files[part.file].path for part in cut.segments) for cut in cut_files(files)}


def test_a_change_touches_its_own_pack_only() -> None:
    sizes = {f"{number:05}": 2_000 + number % 7_000 for number in range(8_000)}
    before = packs(sizes)
    assert 4 < len(before) < 40
    for change in ({"04000": 3}, {"04000x": 5_000}, {"a": 1}):
        after = packs({**sizes, **change})
        assert len(after - before) <= 2
    fewer = dict(sizes)
    del fewer["04000"]
    assert len(packs(fewer) - before) <= 1


def test_chunks_hold_every_byte_once_and_are_never_too_large() -> None:
    sizes = {str(number): number**4 % 9_000_000 for number in range(300)} | {"z": 40_000_000}
    files = planned(sizes)
    covered = dict.fromkeys(range(len(files)), 0)
    for cut in cut_files(files):
        assert 0 < cut.size <= 16 * 1024 * 1024
        for part in cut.segments:
            assert part.offset == covered[part.file]
            covered[part.file] += part.length
    assert [covered[number] for number in range(len(files))] == [file.size for file in files]
