"""`pf job metrics list|show|plot`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from periflow_cli.group import Group, Invocation, json_option

if TYPE_CHECKING:
    from periflow_cli.connection import Connection
    from periflow_sdk.api.models import MetricName

_rank_option = click.option(
    "--rank", type=click.IntRange(0), default=0, show_default=True, help="Of which process."
)


@click.group("metrics", cls=Group)
def group() -> None:
    """What a job has reported with pf.metric()."""


@group.command("list")
@click.argument("job")
@json_option
@click.pass_obj
def list_metrics(invocation: Invocation, /, job: str, as_json: bool) -> None:
    """List the metrics of a job, each with its last value."""
    from periflow_cli.jobs import find_job

    output = invocation.output
    connection = invocation.connect()
    number = find_job(connection, job).number
    names = connection.client.metric_names(connection.project.id, number)
    if as_json:
        output.json(names)
        return
    rows = [
        (
            each.name,
            each.kind,
            ", ".join(map(str, each.ranks)),
            str(each.count),
            str(each.last_step),
            "-" if each.last_value is None else str(each.last_value),
        )
        for each in names
    ]
    output.table(("Name", "Kind", "Ranks", "Points", "Last step", "Last value"), rows)
    if names:
        output.hint(f"pf job metrics plot {number}")
    else:
        output.note(f"Job {number} has reported no metrics.")


@group.command("show")
@click.argument("job")
@click.option("--name", "names", multiple=True, metavar="NAME", help="Of these; default: all.")
@click.option(
    "--limit", type=click.IntRange(1), default=10, show_default=True, help="The last N of each."
)
@_rank_option
@json_option
@click.pass_obj
def show_metrics(
    invocation: Invocation,
    /,
    job: str,
    names: tuple[str, ...],
    limit: int,
    rank: int,
    as_json: bool,
) -> None:
    """Show the last values of metrics."""
    from datetime import UTC, datetime

    from periflow_cli.jobs import find_job
    from periflow_cli.moment import local_time, rfc3339

    output = invocation.output
    connection = invocation.connect()
    number = find_job(connection, job).number
    points = []
    for name in _chosen(connection, number, names):
        series = connection.client.metric_series(
            connection.project.id, number, name, rank=rank, last=limit
        )
        for step, time, value in zip(series.steps, series.times, series.values, strict=True):
            points.append((name, step, datetime.fromtimestamp(time, UTC), value))
    if as_json:
        keys = ("name", "rank", "step", "time", "value")
        rows = [(name, rank, step, rfc3339(time), value) for name, step, time, value in points]
        output.json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    table = [(name, str(step), local_time(time), str(value)) for name, step, time, value in points]
    output.table(("Name", "Step", "Created", "Value"), table)
    output.hint(f"pf job metrics plot {number}")


@group.command("plot")
@click.argument("job")
@click.option(
    "--name", "names", multiple=True, metavar="NAME", help="Of these; default: loss, or the first."
)
@_rank_option
@json_option
@click.pass_obj
def plot_metrics(
    invocation: Invocation, /, job: str, names: tuple[str, ...], rank: int, as_json: bool
) -> None:
    """Draw metrics over the steps; with --json, the points that would be drawn."""
    from periflow_cli.jobs import find_job
    from periflow_cli.plot import draw, width

    output = invocation.output
    connection = invocation.connect()
    number = find_job(connection, job).number
    chosen = _chosen(connection, number, names, one=not names)
    client, project = connection.client, connection.project.id
    series = [
        client.metric_series(project, number, name, rank=rank, max_points=2 * width())
        for name in chosen
    ]
    if as_json:
        output.json(series)
        return
    for line in draw(series, braille=output.boxes):
        output.line(line)
    output.hint(f"pf job metrics show {number} --name {chosen[0]}")


def _chosen(
    connection: Connection, number: int, names: tuple[str, ...], *, one: bool = False
) -> list[str]:
    """The metrics asked for, else all of them, or with ``one`` the loss or the first number.

    Raises:
        NotFoundError: there is no such metric, or none at all.
    """
    from periflow_cli.names import unknown
    from periflow_sdk.errors import NotFoundError

    known = connection.client.metric_names(connection.project.id, number)
    everything = [each.name for each in known]
    for name in names:
        if name not in everything:
            raise unknown(
                "metric",
                name,
                everything,
                f"pf job metrics list {number}",
                where=f"of job {number}",
            )
    if names or (known and not one):
        return list(names) or everything
    if favourite := _favourite(known):
        return [favourite]
    raise NotFoundError(
        f"Job {number} has reported no numbers.",
        code="metric_not_found",
        hint=f"pf job metrics list {number}",
    )


def _favourite(known: list[MetricName]) -> str | None:
    numbers = [each.name for each in known if each.kind == "number"]
    return "loss" if "loss" in numbers else next(iter(numbers), None)
