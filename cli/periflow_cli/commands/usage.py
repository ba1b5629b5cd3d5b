"""`pf org usage`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from periflow_cli.group import Command, Invocation, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from periflow_cli.output import Output
    from periflow_sdk.api.models import Usage

_COLUMNS = ("month", "project", "user", "device_hours", "jobs")


@click.command("usage", cls=Command)
@click.option("--month", metavar="YYYY-MM", help="This month only.")
@click.option("--since", metavar="YYYY-MM", help="From this month on.")
@click.option("--until", metavar="YYYY-MM", help="Up to this month.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@json_option
@click.pass_obj
def show_usage(
    invocation: Invocation,
    /,
    month: str | None,
    since: str | None,
    until: str | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Show the device hours of the current organization by month (UTC), project and user.

    Only an owner can. A device counts from when a job got it until that attempt ended.
    """
    if month and (since or until):
        raise click.UsageError("--month goes without --since and --until.")
    if as_csv and as_json:
        raise click.UsageError("Give --csv or --json, not both.")
    output = invocation.output
    connection = invocation.connect()
    usage = connection.client.usage(
        connection.organization.id, since=month or since, until=month or until
    )
    if as_json:
        output.json(usage)
    elif as_csv:
        _print_csv(output, usage)
    else:
        _print_table(output, usage)


def _print_csv(output: Output, usage: Sequence[Usage]) -> None:
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows([getattr(each, column) for column in _COLUMNS] for each in usage)
    output.line(text.getvalue().removesuffix("\n"))


def _print_table(output: Output, usage: Sequence[Usage]) -> None:
    rows = [
        (
            each.month,
            each.project,
            each.user if each.is_member else f"{each.user} (left)",
            f"{each.device_hours:.2f}",
            str(each.jobs),
        )
        for each in usage
    ]
    output.table(("Month", "Project", "User", "Device Hours", "Jobs"), rows)
    output.note(f"{sum(each.device_hours for each in usage):.2f} device hours in all.")
