"""``pf-server serve``: the control plane as a process. ``pf-server admin``: its administration."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from periflow_sdk.environment import home as default_home
from periflow_sdk.errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PeriFlowError,
)
from periflow_server import __version__, embedded

if TYPE_CHECKING:
    from periflow_server.settings import Settings

_EXIT_CODES = {"server_running": 3, "database_in_use": 3, "usage": 2}


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, serve, exit. Exit code 3: another server has folder or database."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser(given).parse_args(given)
    try:
        code: int = options.run(options)
    except PeriFlowError as error:
        print(f"error: {error.message}", file=sys.stderr)  # noqa: T201
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)  # noqa: T201
        code = _exit_code(error)
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads that still wait for somebody would hold the process; all that matters is committed.
    os._exit(code)


def _exit_code(error: PeriFlowError) -> int:
    """The exit code of an error, as those of `pf` where both have it."""
    by_class = ((NotFoundError, 3), (ConflictError, 5), (InvalidRequestError, 2))
    default = next((code for kind, code in by_class if isinstance(error, kind)), 1)
    return _EXIT_CODES.get(error.code, default)


def _parser(given: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pf-server", description="The PeriFlow control plane.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run the server")
    serve.add_argument("--embedded", action="store_true", help="for this machine's user alone")
    serve.add_argument("--home", type=Path, help="PERIFLOW_HOME of the embedded server")
    serve.add_argument("--host", help="address to listen on")
    serve.add_argument("--port", type=int, help="port to listen on")
    serve.set_defaults(run=_serve_any)
    admin = commands.add_parser("admin", help="administer a server, on its own machine")
    if "admin" in given:
        from periflow_server.admin.command import add_commands

        add_commands(admin)
    return parser


def _serve_any(options: argparse.Namespace) -> int:
    return _serve_embedded(options) if options.embedded else _serve(options)


def _serve_embedded(options: argparse.Namespace) -> int:
    host = options.host or "127.0.0.1"
    if host not in ("127.0.0.1", "localhost"):
        raise PeriFlowError(
            f"The embedded server listens on loopback only, not on {host}.",
            code="usage",
            hint="Leave out --embedded for a server that others can reach.",
        )
    os.umask(0o077)
    data_dir, lock = embedded.take_data_dir(options.home or default_home())
    with lock:
        embedded.withdraw(data_dir)
        bound = embedded.listen_socket(data_dir, "127.0.0.1", options.port)
        return _run_embedded(data_dir, bound.getsockname()[1], bound)


def _run_embedded(data_dir: Path, port: int, bound: socket.socket) -> int:
    from periflow_server.settings import Settings

    key = embedded.load_key(data_dir)
    return _run(Settings.for_embedded(data_dir, port, key), bound)


def _serve(options: argparse.Namespace) -> int:
    from periflow_server.settings import Settings

    settings = Settings.read()
    settings.host = options.host or settings.host
    settings.port = settings.port if options.port is None else options.port
    settings.data_dir = settings.data_dir.absolute()
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    if settings.secret_key is None:
        settings.secret_key = embedded.load_key(settings.data_dir)
    hint = "Stop it, or give this one a PERIFLOW_SERVER_DATA_DIR of its own."
    with embedded.hold_folder(settings.data_dir, hint):
        bound = embedded.listen_socket(settings.data_dir, settings.host, settings.port)
        settings.port = bound.getsockname()[1]
        return _run(settings, bound)


def _run(settings: Settings, bound: socket.socket) -> int:
    from periflow_server.serving import serve

    def announce() -> None:
        embedded.announce(settings.data_dir, settings.url, __version__)

    with embedded.hold_database(settings.database):
        try:
            return serve(settings, bound, announce)
        finally:
            embedded.withdraw(settings.data_dir)


if __name__ == "__main__":
    main()
