"""``pf-server admin backup|restore``."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from periflow_server.admin.command import Commands, confirm

if TYPE_CHECKING:
    from periflow_server.settings import Settings


def add_commands(commands: Commands) -> None:
    """Add the commands of backups."""
    parser = commands.add("backup", back_up, help="write all data of a server into one file")
    parser.add_argument("file", type=Path, metavar="FILE", help="a tar file, which is not there")
    parser = commands.add("restore", restore, help="put a backup in the place of a server's data")
    parser.add_argument("file", type=Path, metavar="FILE", help="what `backup` wrote")
    parser.add_argument("-y", "--yes", action="store_true", help="do not ask")


def back_up(options: argparse.Namespace) -> int:
    """Write a backup; the server may be running."""
    import sys

    from periflow_server import backup
    from periflow_server.admin.target import open_target

    with open_target(options) as target:
        settings = target.settings
        database = _file_of(settings)
        file = options.file.absolute()
        summary = backup.back_up(settings.data_dir, database, settings.storage_dir, file)
    print(f"Backed up {summary.file_count} files, {summary.size / 1e6:.1f} MB, to {file}.")
    if summary.missing:
        print(f"warning: {summary.missing} objects are missing in the store", file=sys.stderr)
    if settings.storage_dir is None:
        print(f"The objects are in {settings.storage_url}, and not in it.", file=sys.stderr)
    if not (settings.data_dir / "key").exists():
        print("The key is not in it: keep PERIFLOW_SERVER_SECRET_KEY.", file=sys.stderr)
    else:
        print("It has the key of all credentials: keep it as safe as them.", file=sys.stderr)
    return 0


def restore(options: argparse.Namespace) -> int:
    """Restore a backup; the data that was there is put aside."""
    import sys

    from periflow_server import backup

    data_dir = _data_dir(options)
    _require_backup(options.file)
    with _stopped(data_dir):
        if (data_dir / "periflow.db").exists():
            question = f"Put {options.file} in the place of the data in {data_dir}?"
            if not confirm(question, yes=options.yes):
                print("Nothing was changed.", file=sys.stderr)
                return 1
        aside = backup.restore(options.file, data_dir)
    print(f"Restored {options.file} to {data_dir}.")
    if aside is not None:
        print(f"What was there is in {aside}.", file=sys.stderr)
    return 0


def _file_of(settings: Settings) -> Path:
    """The file of the database.

    Raises:
        UsageError: the data is in PostgreSQL.
    """
    from periflow_sdk.errors import UsageError

    if not settings.database.startswith("sqlite:///"):
        raise UsageError(
            "This server keeps its data in PostgreSQL, which has backups of its own.",
            hint="Take pg_dump first and a copy of the store after it, and keep the secret key.",
        )
    return Path(settings.database.removeprefix("sqlite:///"))


def _data_dir(options: argparse.Namespace) -> Path:
    """The folder that gets the data; it need not be there."""
    from periflow_sdk.environment import home
    from periflow_sdk.errors import UsageError
    from periflow_server.settings import Settings

    if options.embedded or options.home:
        return Path(options.home or home()).absolute() / "server"
    settings = Settings.read()
    _file_of(settings)
    if settings.database_url or (settings.storage_url and settings.storage_dir):
        raise UsageError(
            "A restored server has its database, and a store that is a folder, in its data folder.",
            hint="Unset PERIFLOW_SERVER_DATABASE_URL and PERIFLOW_SERVER_STORAGE_URL.",
        )
    return settings.data_dir.absolute()


def _require_backup(file: Path) -> None:
    from periflow_sdk.errors import UsageError

    if not file.is_file():
        raise UsageError(f"There is no file {file}.", hint="Give what `backup` wrote.")


@contextmanager
def _stopped(data_dir: Path) -> Iterator[None]:
    """Nobody serves from the folder meanwhile.

    Raises:
        ConflictError: a server runs there (``server_running``, ``database_in_use``).
    """
    from periflow_server import embedded

    if not data_dir.exists():
        yield
        return
    folder = embedded.hold_folder(data_dir, "Stop it first: `pf server stop`.")
    with folder, embedded.hold_database(f"sqlite:///{data_dir / 'periflow.db'}"):
        yield
