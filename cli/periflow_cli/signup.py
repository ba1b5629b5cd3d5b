"""What a signup asks for, and its steps: have a code mailed, get hold of it, confirm."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from periflow_cli.connection import Connection
from periflow_cli.field import complaints
from periflow_cli.mailcode import MailedCode
from periflow_cli.output import Output
from periflow_sdk.api.models import InvitedSignup, SignupConfirmation, SignupRequest, User
from periflow_sdk.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

B = TypeVar("B", SignupRequest, InvitedSignup)

_OPTIONS = {
    "username": "--username NAME",
    "name": "--name TEXT",
    "email": "--email ADDRESS",
    "password": "--password-stdin",
}


def complete(output: Output, body: type[B], given: Mapping[str, str | None], **known: str) -> B:
    """The request, with what was not given asked for on a terminal, each field until it is right.

    Args:
        given: The fields by name, in the order to ask in.
        known: Fields that nobody is asked for.

    Raises:
        UsageError: fields are wrong, or missing where nobody can answer; all of them are named.
    """
    values = {field: value for field, value in given.items() if value is not None}
    wrong = complaints(body, values)
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
            complaint=_complaint(body, field),
        )
    return body.model_validate({**values, **known})


def _complaint(body: type[B], field: str) -> Callable[[str], str]:
    return lambda answer: " ".join(complaints(body, {field: answer}))


class Signup:
    """One signup at the control plane of ``connection``."""

    def __init__(self, connection: Connection, output: Output) -> None:
        self._connection = connection
        self._mailed = MailedCode(connection, output, "sign-up code")
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
        return self._mailed.find(self._email, f"pf signup --username {self._username} --code CODE")

    def confirm(self, username: str, code: str) -> User:
        """Create the account and log in."""
        body = SignupConfirmation(username=username, code=code)
        with self._connection.open_anonymous_client() as client:
            session = client.confirm_signup(body)
        self._connection.log_in(session)
        return session.user

    def confirm_invited(self, body: InvitedSignup) -> User:
        """Create the account of somebody who was invited, join, and log in."""
        with self._connection.open_anonymous_client() as client:
            session = client.sign_up_invited(body)
        self._connection.log_in(session)
        return session.user
