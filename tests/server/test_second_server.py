"""SQLite has room for one server: a second one is refused, whichever way it comes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from nursery import run

if TYPE_CHECKING:
    from conftest import ServerProcess

pytestmark = pytest.mark.sqlite


def refused(server: ServerProcess, *, code: int = 3) -> str:
    """What a server says that may not start."""
    server.home.mkdir(parents=True, exist_ok=True)
    given = {**server.variables, "PERIFLOW_SERVER_DATA_DIR": str(server.data_dir)}
    ended = run("periflow_server", server.command()[3:], {**os.environ, **given})
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    return ended.stderr


@pytest.mark.parametrize("is_embedded", [True, False])
def test_server_on_the_database_of_another_is_refused_and_told_of_postgresql(
    start_server: Callable[..., ServerProcess],
    server_class: type[ServerProcess],
    tmp_path: Path,
    is_embedded: bool,
) -> None:
    first = start_server("one", is_embedded=is_embedded)
    client = first.client() if is_embedded else None
    variables = {"PERIFLOW_SERVER_DATABASE_URL": first.database_url}
    for kind in (True, False):
        second = server_class(tmp_path / f"two-{kind}", variables, is_embedded=kind)
        said = refused(second)
        assert "SQLite has room for one" in said
        assert str(first.data_dir / "periflow.db") in said
        assert "PERIFLOW_SERVER_DATABASE_URL=postgresql://" in said
    if client is not None:
        assert client.me()
    first.kill()
    again = start_server("three", is_embedded=False, **variables)
    assert again.database_url == first.database_url


def test_server_on_the_folder_of_another_is_refused(
    start_server: Callable[..., ServerProcess],
) -> None:
    first = start_server(is_embedded=False)
    assert "PERIFLOW_SERVER_DATA_DIR" in refused(first)
    note = first.data_dir / "server.json"
    assert note.exists()


@pytest.mark.parametrize("url", ["mysql://me:very-secret@host/name", "not an address very-secret"])
def test_database_of_another_kind_is_refused_with_the_way_out(
    server_class: type[ServerProcess], tmp_path: Path, url: str
) -> None:
    server = server_class(tmp_path, {"PERIFLOW_SERVER_DATABASE_URL": url}, is_embedded=False)
    said = refused(server, code=2)
    assert "postgresql://USER:PASSWORD@HOST/NAME" in said
    assert "very-secret" not in said
