"""Password hashes (argon2id)."""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING

from periflow_sdk.errors import InvalidRequestError

if TYPE_CHECKING:
    from pwdlib import PasswordHash


SHORTEST_PASSWORD = 8

# A hash takes 19 MiB while it is made: so many at once, however many log in.
_turns = threading.BoundedSemaphore(2)


def hash_password(password: str) -> str:
    """The hash to keep; takes some 20 ms on purpose."""
    with _turns:
        return _hasher().hash(password)


def is_password(password: str, password_hash: str | None) -> bool:
    """Whether the password is right. Takes as long when there is no user to compare with."""
    compared = password_hash or _nobody()
    with _turns:
        matches = _hasher().verify(password, compared)
    return matches and password_hash is not None


def require_strong(password: str, username: str, email: str) -> None:
    """Refuse what is tried first by who guesses.

    Raises:
        InvalidRequestError: ``weak_password``.
    """
    plain = _plain(password)
    reason = ""
    if len(password) < SHORTEST_PASSWORD:
        reason = f"it has fewer than {SHORTEST_PASSWORD} characters"
    elif plain and (plain.rstrip("0123456789") in _COMMON | {""} or plain in _COMMON):
        reason = "it is one of those that are tried first"
    elif len(set(password)) < 4:
        reason = "it repeats too few characters"
    elif plain in {_plain(username), _plain(email), _plain(email.partition("@")[0])}:
        reason = "it is your name"
    if reason:
        raise InvalidRequestError(
            f"This password is too easy to guess: {reason}.",
            code="weak_password",
            hint="Use a few words, or what a password manager makes.",
        )


def _plain(text: str) -> str:
    return "".join(each for each in text.casefold() if each.isalnum())


# fmt: off
_COMMON = frozenset({
    "1q2w3e4r", "1q2w3e4r5t", "1qaz2wsx", "a1b2c3d4", "abc12345", "abcd1234", "abcdefgh",
    "abcdefghi", "admin", "adminadmin", "administrator", "asdf1234", "asdfasdf", "asdfghjk",
    "asdfghjkl", "baseball", "batman", "changeit", "changeme", "computer", "contrasena",
    "default", "dragon", "football", "guest", "iloveyou", "internet", "jennifer", "letmein",
    "master", "michael", "monkey", "motdepasse", "p4ssw0rd", "p4ssword", "passw0rd",
    "password", "passwort", "periflow", "pfperiflow", "princess", "q1w2e3r4", "qazwsxedc",
    "qwer1234", "qwerty", "qwertyui", "qwertyuiop", "qwertz", "root", "rootroot", "secret",
    "shadow", "starwars", "sunshine", "superman", "test", "testtest", "trustno1", "welcome",
    "whatever", "zxcvbnm", "zxcvbnma",
})
# fmt: on


@cache
def _hasher() -> PasswordHash:
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    # 19 MiB and two passes: within the usual advice, and small beside the server's own memory.
    return PasswordHash([Argon2Hasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)])


@cache
def _nobody() -> str:
    return hash_password("the password of nobody")
