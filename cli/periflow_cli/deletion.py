"""Of several things that are to be deleted none is, when one of them cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from periflow_sdk.errors import ApiError


@contextmanager
def before_any(count: int) -> Iterator[None]:
    """Let a refusal say that the others are still there, too.

    Args:
        count: How many things are to be deleted.
    """
    try:
        yield
    except ApiError as error:
        if count == 1:
            raise
        message = f"{error.message} None was deleted."
        raise type(error)(message, code=error.code, hint=error.hint, data=error.data) from error
