"""A cache of the test's own, and a login as `pf` keeps it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from periflow_sdk.data.cache import node_cache


@pytest.fixture
def cache_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """PERIFLOW_CACHE_DIR of this test."""
    monkeypatch.setenv("PERIFLOW_CACHE_DIR", str(tmp_path / "cache"))
    node_cache.cache_clear()
    yield tmp_path / "cache"
    node_cache.cache_clear()


@pytest.fixture
def log_in(
    tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Any, Any], Path]:
    """Makes a home in which a client's user is logged in, as after `pf login`."""

    def _log_in(server: Any, client: Any) -> Path:
        home = tmp_path / "person"
        home.mkdir(mode=0o700)
        session = {"access_token": client.session.access_token, "refresh_token": "none"}
        (home / "session.json").write_text(json.dumps({server.url: session}))
        places = {
            "organization": {"id": client.organization, "name": "unused"},
            "project": {"id": client.project, "name": "unused"},
        }
        config = {"url": server.url, "server": server.url, **places}
        (home / "config.json").write_text(json.dumps(config))
        monkeypatch.setenv("PERIFLOW_HOME", str(home))
        return home

    return _log_in
