"""Password hashes (argon2id)."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pwdlib import PasswordHash


def hash_password(password: str) -> str:
    """The hash to keep; takes some 20 ms on purpose."""
    return _hasher().hash(password)


def is_password(password: str, password_hash: str | None) -> bool:
    """Whether the password is right. Takes as long when there is no user to compare with."""
    matches = _hasher().verify(password, password_hash or _nobody())
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
