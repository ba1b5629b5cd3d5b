"""The steps of a signup: ask for a code, get hold of it, confirm."""

from __future__ import annotations

from pathlib import Path

from periflow_cli.connection import Connection
from periflow_cli.field import complaints
from periflow_cli.output import Output
from periflow_sdk.api.models import SignupConfirmation, SignupRequest, User
from periflow_sdk.errors import UsageError

_OPTIONS = {
    "username": "--username NAME",
    "name": "--name TEXT",
    "email": "--email ADDRESS",
    "password": "--password-stdin",
}


def complete(output: Output, given: dict[str, str | None]) -> SignupRequest:
    """The request, with what was not given asked for on a terminal, each field until it is right.

    Args:
        given: The fields by name, in the order to ask in.

    Raises:
        UsageError: fields are wrong, or missing where nobody can answer; all of them are named.
    """
    values = {field: value for field, value in given.items() if value is not None}
    wrong = complaints(SignupRequest, values)
    missing = [field for field in given if field not in values]
    if missing and not output.interactive:
        options = ", ".join(_OPTIONS[field] for field in missing)
        wrong.append(f"{', '.join(missing).capitalize()} missing: give {options}.")
    if wrong:
        raise UsageError(" ".join(wrong))
    for field in missing:
        values[field] = output.ask(
            field.capitalize(),
            _OPTIONS[field],
            hidden=field == "password",
            complaint=lambda answer, field=field: " ".join(  # type: ignore[misc]
                complaints(SignupRequest, {field: answer})
            ),
        )
    return SignupRequest(**values)


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
            where = _short(mail.parent)
            self._output.note(f"Your sign-up code is {code} (local mail: {where}).")
            return code
        self._output.note(self._whereabouts())
        if not self._output.interactive:
            raise UsageError(
                "The mailed code is needed: give --code CODE.",
                hint=f"pf signup --username {self._username} --code CODE",
            )
        return self._output.ask("Code", "--code CODE")

    def _whereabouts(self) -> str:
        """Where to look for the code; an embedded server sends no mail."""
        with self._connection.open_anonymous_client() as client:
            server = client.server_info()
        if not server.embedded:
            return f"A code was mailed to {self._email}."
        folder = f" ({server.data_dir}/outbox)" if server.data_dir else ""
        return f"The code is in the outbox of that server{folder}."

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
