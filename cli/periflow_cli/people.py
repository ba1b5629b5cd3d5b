"""Arguments that name people, and tables of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from periflow_sdk.api.models import Permission


def person_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add USERNAME."""
    return click.argument("username", metavar="USERNAME", callback=_checked)(function)


def people_argument(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add USERNAME... as ``usernames``."""
    return click.argument(
        "usernames", metavar="USERNAME...", nargs=-1, required=True, callback=_all_checked
    )(function)


def role_table(
    permissions: Sequence[Permission], scope: str
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of what each role may do: the roles with the fewest rights first."""
    shown = [each for each in permissions if each.scope == scope]
    roles = sorted({role for each in shown for role in each.roles}, key=_rights(shown))
    rows = [
        (each.words, *("yes" if role in each.roles else "-" for role in roles)) for each in shown
    ]
    return ("Who may", *(role.capitalize() for role in roles)), rows


def _rights(permissions: Sequence[Permission]) -> Callable[[str], int]:
    return lambda role: sum(role in each.roles for each in permissions)


def _checked(context: click.Context, parameter: click.Parameter, value: str) -> str:
    name = value.strip()
    if not name.strip("./") or "/" in name:
        raise click.BadParameter(f"{value!r} is no username.", context, parameter)
    return name


def _all_checked(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    return tuple(_checked(context, parameter, value) for value in values)
