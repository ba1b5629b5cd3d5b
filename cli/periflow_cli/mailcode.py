"""A code that the server has mailed: found in the local server's outbox, or asked for."""

from __future__ import annotations

from pathlib import Path

from periflow_cli.connection import Connection
from periflow_cli.output import Output
from periflow_sdk.errors import UsageError


class MailedCode:
    """Gets hold of a code from the control plane of ``connection``.

    Args:
        what: What the code is, in words.
    """

    def __init__(self, connection: Connection, output: Output, what: str) -> None:
        self._connection = connection
        self._output = output
        self._what = what
        self._before = self._newest_mail()

    def find(self, address: str, command: str) -> str:
        """The code: from the local server's outbox, else from the person.

        Args:
            address: Where it was mailed to, as far as that is known: only for what is shown.
            command: Goes on with a code, for where nobody can answer.

        Raises:
            UsageError: nobody can answer.
        """
        local = self._connection.local
        found = local.outbox_code(address if "@" in address else None) if local else None
        if found is not None and found[1] != self._before:
            code, mail = found
            where = _short(mail.parent)
            self._output.note(f"Your {self._what} is {code} (local mail: {where}).")
            return code
        self._output.note(self._whereabouts(address))
        if not self._output.interactive:
            raise UsageError("The mailed code is needed: give --code CODE.", hint=command)
        return self._output.ask("Code", "--code CODE")

    def _newest_mail(self) -> Path | None:
        local = self._connection.local
        found = local.outbox_code(None) if local else None
        return found[1] if found else None

    def _whereabouts(self, address: str) -> str:
        """Where to look for the code; an embedded server sends no mail."""
        with self._connection.open_anonymous_client() as client:
            server = client.server_info()
        if not server.embedded:
            return f"A code was mailed to {address}."
        folder = f" ({server.data_dir}/outbox)" if server.data_dir else ""
        return f"The code is in the outbox of that server{folder}."


def _short(path: Path) -> str:
    try:
        return f"~/{path.relative_to(Path.home())}"
    except ValueError:
        return str(path)
