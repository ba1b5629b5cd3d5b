"""Names that do not exist: the nearest ones, and the command that lists the right ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

from periflow_sdk.errors import NotFoundError


def unknown(
    noun: str, name: str, names: Iterable[str], command: str, *, where: str = ""
) -> NotFoundError:
    """The error for a name that nothing has.

    Args:
        noun: What it should name.
        names: What there is.
        command: Lists what there is.
        where: The place that was looked in: ``in project engines``.
    """
    near = get_close_matches(name, list(names), n=3, cutoff=0.5)
    did_you_mean = f"Did you mean {', '.join(near)}? " if near else ""
    return NotFoundError(
        f"There is no {noun} {name!r}{f' {where}' if where else ''}.",
        code=f"{noun.lower()}_not_found",
        hint=f"{did_you_mean}`{command}` lists them all.",
    )


@contextmanager
def known(
    noun: str, name: str, candidates: Callable[[], Iterable[str]], command: str, *, where: str = ""
) -> Iterator[None]:
    """Turn the server's "not found" of one name into the error of ``unknown``.

    A name that could not be part of an address is not asked for.
    """
    try:
        if not name.strip("./") or "/" in name:
            raise NotFoundError(name)
        yield
    except NotFoundError as error:
        if error.code not in ("not_found", f"{noun.lower()}_not_found"):
            raise
        raise unknown(noun, name, candidates(), command, where=where) from error
