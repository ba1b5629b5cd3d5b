"""The steps of a signup: ask for a code, get hold of it, confirm."""

from __future__ import annotations

from pathlib import Path

from periflow_cli.connection import Connection
from periflow_cli.output import Output
from periflow_sdk.api.models import SignupConfirmation, SignupRequest, User
from periflow_sdk.errors import UsageError


class Signup:
    """One signup at the control plane of ``connection``."""

    def __init__(self, connection: Connection, output: Output) -> None:
        self._connection = connection
        self._output = output
        self._username = ""
        self._email = ""

    def request(self, body: SignupRequest) -> None:
        """Have a code mailed.

        Raises:
            ConflictError: the username or the address is taken.
        """
        with self._connection.open_anonymous_client() as client:
            pending = client.sign_up(body)
        self._username, self._email = pending.username, pending.email

    def code(self) -> str:
        """The mailed code: from the local server's outbox, else from the person.

        Raises:
            UsageError: nobody can answer; the hint finishes the signup.
        """
        local = self._connection.local
        found = local.outbox_code(self._email) if local else None
        if found is not None:
            code, mail = found
            self._output.note(f"code {code}, from the local outbox {_short(mail)}")
            return code
        self._output.note(f"A code was mailed to {self._email}.")
        if not self._output.interactive:
            raise UsageError(
                "The mailed code is needed: give --code CODE.",
                hint=f"pf signup --username {self._username} --code CODE",
            )
        return self._output.ask("Code", "--code CODE")

    def confirm(self, username: str, code: str) -> User:
        """Create the account and log in."""
        body = SignupConfirmation(username=username, code=code)
        with self._connection.open_anonymous_client() as client:
            session = client.confirm_signup(body)
        self._connection.log_in(session)
        return session.user


def _short(path: Path) -> str:
    try:
        return f"~/{path.relative_to(Path.home())}"
    except ValueError:
        return str(path)
