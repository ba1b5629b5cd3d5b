"""Password hashes (argon2id)."""

from __future__ import annotations

import threading
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pwdlib import PasswordHash


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


@cache
def _hasher() -> PasswordHash:
    from pwdlib import PasswordHash
    from pwdlib.hashers.argon2 import Argon2Hasher

    # 19 MiB and two passes: within the usual advice, and small beside the server's own memory.
    return PasswordHash([Argon2Hasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)])


@cache
def _nobody() -> str:
    return hash_password("the password of nobody")
