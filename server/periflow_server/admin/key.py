"""``pf-server admin rotate-keys``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from periflow_server.admin.command import Commands
from periflow_server.admin.target import open_target

if TYPE_CHECKING:
    from periflow_server.admin.target import Target
    from periflow_server.services.rotation import Rotation

_EPILOG = """
A server whose key is in its data folder gets a new one; stop it first.

Servers with PERIFLOW_SERVER_SECRET_KEY go on meanwhile:
  1. Name the new key in PERIFLOW_SERVER_OLD_SECRET_KEYS of every server, and restart each.
  2. Make it PERIFLOW_SERVER_SECRET_KEY, put the old one in its place, and restart each.
  3. Run this command with the same two variables.
  4. Take PERIFLOW_SERVER_OLD_SECRET_KEYS away, and restart each.
"""


def add_commands(commands: Commands) -> None:
    """Add the command of keys."""
    parser = commands.add(
        "rotate-keys", rotate_keys, help="seal all stored secrets under the newest key"
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = _EPILOG


def rotate_keys(options: argparse.Namespace) -> int:
    """Seal everything anew; 1 when something could not be opened."""
    from periflow_server import embedded

    with _renewed(options) as (target, data_dir):
        done = _rotate(target)
    # The database is closed: what it wrote is on the disk.
    if data_dir is not None and not done.lost:
        embedded.forget_old_keys(data_dir)
    _tell(done, has_file=data_dir is not None)
    return 1 if done.lost else 0


@contextmanager
def _renewed(options: argparse.Namespace) -> Iterator[tuple[Target, Path | None]]:
    """The server with its newest key, and its folder if that has the key.

    Raises:
        ConflictError: it runs, and would not know the new key (``server_running``).
    """
    from periflow_server import embedded

    with open_target(options) as target:
        settings = target.settings
        data_dir = settings.data_dir
        if not _has_file(data_dir, settings.secret_key):
            yield target, None
            return
        with embedded.hold_folder(data_dir, "Run `pf server stop` first."):
            settings.secret_key = embedded.renew_key(data_dir)
            yield target, data_dir


def _has_file(data_dir: Path, key: str | None) -> bool:
    path = data_dir / "key"
    return path.exists() and path.read_text(errors="replace").strip() == key


def _rotate(target: Target) -> Rotation:
    from periflow_server.services.installation import agree_on_key
    from periflow_server.services.rotation import rotate
    from periflow_server.services.vault import Vault

    with target.database.write() as session:
        done = rotate(session, Vault.of(target.settings))
        if not done.lost:
            agree_on_key(session, target.settings)
        return done


def _tell(done: Rotation, *, has_file: bool) -> None:
    total = done.renewed + done.current + len(done.lost)
    end = "" if done.lost else "; all are under the newest key"
    print(f"Sealed {done.renewed} of {total} stored secrets anew{end}.")
    if not has_file and done.renewed and not done.lost:
        print("PERIFLOW_SERVER_OLD_SECRET_KEYS is not needed any more.", file=sys.stderr)
    if not has_file and not done.renewed:
        print("There was nothing to do; see --help for how to change the key.", file=sys.stderr)
    if done.lost:
        print("Give the former keys in PERIFLOW_SERVER_OLD_SECRET_KEYS.", file=sys.stderr)
    for row in done.lost:
        print(f"warning: the secret of {row} cannot be opened with any key given", file=sys.stderr)
