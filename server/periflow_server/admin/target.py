"""The server that an administrator's command is about: its settings and its database."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from periflow_server.db.base import Database
    from periflow_server.settings import Settings


@dataclass(frozen=True)
class Target:
    """What a command works on. The server may be running meanwhile."""

    settings: Settings
    database: Database


@contextmanager
def open_target(options: argparse.Namespace) -> Iterator[Target]:
    """The embedded server of ``--home`` (or ``--embedded``), else that of ``PERIFLOW_SERVER_*``.

    Raises:
        UsageError: there is no such database, or it is of another version.
    """
    from periflow_server.db.base import Database
    from periflow_server.db.schema import import_tables
    from periflow_server.services.mail import Postbox
    from periflow_server.services.vault import Vault

    settings = _settings(options)
    import_tables()
    database = Database(settings.database)
    try:
        _require_current(database)
        if settings.secret_key is not None:
            # The server sends what is queued here when it next looks.
            database.info["postbox"] = Postbox(Vault.of(settings), lambda _: None)
        yield Target(settings, database)
    finally:
        database.close()


def _settings(options: argparse.Namespace) -> Settings:
    from periflow_sdk.environment import home
    from periflow_server import embedded
    from periflow_server.settings import Settings

    if options.embedded or options.home:
        data_dir = (options.home or home()).absolute() / "server"
        _require_file(data_dir / "periflow.db")
        return Settings.for_embedded(data_dir, 0, embedded.load_key(data_dir))
    settings = Settings.read()
    settings.data_dir = settings.data_dir.absolute()
    if settings.database.startswith("sqlite:///"):
        _require_file(Path(settings.database.removeprefix("sqlite:///")))
    if settings.secret_key is None and (settings.data_dir / "key").exists():
        settings.secret_key = embedded.load_key(settings.data_dir)
    return settings


def _require_file(path: Path) -> None:
    from periflow_sdk.errors import UsageError

    if not path.exists():
        raise UsageError(
            f"There is no database {path}.",
            hint="Give --home FOLDER for an embedded server, or set PERIFLOW_SERVER_DATABASE_URL "
            "or PERIFLOW_SERVER_DATA_DIR as the server has them.",
        )


def _require_current(database: Database) -> None:
    from periflow_sdk.errors import UsageError
    from periflow_server.db.schema import current_revision
    from periflow_server.migrations import HEAD

    revision = current_revision(database)
    if revision != HEAD:
        raise UsageError(
            f"The database has the schema {revision}, and this version needs {HEAD}.",
            hint="Start the server of this version once: it brings the database up to date.",
        )
