"""`pf job metrics list|show|plot|export`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from periflow_cli.group import Group, Invocation, json_option

if TYPE_CHECKING:
    from periflow_cli.connection import Connection
    from periflow_sdk.api.models import MetricName, MetricSeries


def _rank_options(command: Callable[..., None]) -> Callable[..., None]:
    """Whose values: ``rank`` (None: not said), ``all_ranks`` and ``mean``."""
    for option in (
        click.option("--mean", is_flag=True, help="The mean of all processes at each step."),
        click.option("--all-ranks", is_flag=True, help="Of every process."),
        click.option("--rank", type=click.IntRange(0), help="Of which process.  [default: 0]"),
    ):
        command = option(command)
    return command


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
    columns = ("Name", "Kind", "Ranks", "Points", "Last step", "Last value")
    output.table(columns, rows, spare=("Kind", "Points"))
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
@_rank_options
@json_option
@click.pass_obj
def show_metrics(
    invocation: Invocation,
    /,
    job: str,
    names: tuple[str, ...],
    limit: int,
    rank: int | None,
    all_ranks: bool,
    mean: bool,
    as_json: bool,
) -> None:
    """Show the last values of metrics."""
    from datetime import UTC, datetime

    from periflow_cli.jobs import find_job
    from periflow_cli.moment import local_time, rfc3339

    output = invocation.output
    connection = invocation.connect()
    number = find_job(connection, job).number
    view = _View.of(rank, all_ranks=all_ranks, mean=mean)
    chosen = _chosen(connection, number, names, view)
    points = []
    for series in view.series(connection, number, chosen, last=limit):
        for step, time, value in zip(series.steps, series.times, series.values, strict=True):
            points.append(
                (series.name, series.rank, step, datetime.fromtimestamp(time, UTC), value)
            )
    if as_json:
        keys = ("name", "rank", "step", "time", "value")
        rows = [(*place, rfc3339(time), value) for *place, time, value in points]
        output.json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    header: tuple[str, ...] = ("Name", "Rank", "Step", "Created", "Value")
    table: list[tuple[str, ...]] = [
        (name, str(whose), str(step), local_time(time), str(value))
        for name, whose, step, time, value in points
    ]
    if not all_ranks:
        header = header[:1] + header[2:]
        table = [row[:1] + row[2:] for row in table]
    output.table(header, table)
    output.hint(f"pf job metrics plot {number}")


@group.command("plot")
@click.argument("job")
@click.option(
    "--name", "names", multiple=True, metavar="NAME", help="Of these; default: loss, or the first."
)
@_rank_options
@json_option
@click.pass_obj
def plot_metrics(
    invocation: Invocation,
    /,
    job: str,
    names: tuple[str, ...],
    rank: int | None,
    all_ranks: bool,
    mean: bool,
    as_json: bool,
) -> None:
    """Draw metrics over the steps; with --json, the points that would be drawn."""
    from periflow_cli.jobs import find_job
    from periflow_cli.plot import draw, width

    output = invocation.output
    connection = invocation.connect()
    number = find_job(connection, job).number
    view = _View.of(rank, all_ranks=all_ranks, mean=mean)
    chosen = _chosen(connection, number, names, view, one=not names)
    series = [*view.series(connection, number, chosen, max_points=2 * width())]
    if as_json:
        output.json(series)
        return
    if all_ranks:
        for each in series:
            each.name = f"{each.name} (rank {each.rank})"
    for line in draw(series, braille=output.boxes):
        output.line(line)
    output.hint(f"pf job metrics show {number} --name {chosen[0].name}")


@group.command("export")
@click.argument("job")
@click.option("--name", "names", multiple=True, metavar="NAME", help="Of these; default: all.")
@click.option("--format", "form", type=click.Choice(["csv", "jsonl"]), help="[default: csv]")
@click.option("-o", "--output", "path", metavar="FILE", help="Write here; default: print.")
@click.option("--tensorboard", "folder", metavar="DIR", help="Write event files below this folder.")
@click.option("--system", is_flag=True, help="Also what was measured of the machines.")
@_rank_options
@json_option
@click.pass_obj
def export_metrics(
    invocation: Invocation,
    /,
    job: str,
    names: tuple[str, ...],
    form: str | None,
    path: str | None,
    folder: str | None,
    system: bool,
    rank: int | None,
    all_ranks: bool,
    mean: bool,
    as_json: bool,
) -> None:
    """Write every value of metrics as CSV, JSON lines or TensorBoard event files.

    With --tensorboard each job gets a folder of its own in DIR, and DIR is what
    `tensorboard --logdir` is told.
    """
    from pathlib import Path

    from periflow_cli.jobs import find_job
    from periflow_cli.metric_export import write_event_files, write_rows

    if folder is not None and (form or path):
        raise click.UsageError("Use --tensorboard without --format and --output.")
    if as_json and form:
        raise click.UsageError("Use --json or --format: with --json it is one document.")
    output = invocation.output
    connection = invocation.connect()
    found = find_job(connection, job)
    view = _View.of(rank, all_ranks=all_ranks, mean=mean, system=system)
    series = view.series(connection, found.number, _chosen(connection, found.number, names, view))
    if folder is not None:
        place, count = write_event_files(Path(folder), found, series)
        if as_json:
            output.json({"path": str(place.absolute()), "points": count})
            return
        output.line(f"Wrote {count:,} points to {place}.")
        output.hint(f"tensorboard --logdir {folder}")
        return
    count = write_rows(series, "json" if as_json else form or "csv", Path(path) if path else None)
    if path:
        output.note(f"Wrote {count:,} points to {path}.")


@dataclass(frozen=True)
class _View:
    """Whose values are shown: those of one rank, of all, or their mean (``rank`` is None).

    ``has_system``: those of the agents, of ranks below 0, as well.
    """

    rank: int | None
    is_all: bool
    has_system: bool = False

    @classmethod
    def of(cls, rank: int | None, *, all_ranks: bool, mean: bool, system: bool = False) -> _View:
        if (rank is not None) + all_ranks + mean > 1:
            raise click.UsageError("Use one of --rank, --all-ranks and --mean.")
        return cls(None if mean else rank or 0, all_ranks, system)

    def shows(self, metric: MetricName) -> bool:
        """Whether the metric has values in this view."""
        if self._machines(metric):
            return True
        if self.rank is None:
            return metric.kind == "number"
        return self.is_all or self.rank in metric.ranks

    def _machines(self, metric: MetricName) -> list[int]:
        return [rank for rank in metric.ranks if rank < 0]

    def _ranks(self, metric: MetricName) -> Sequence[int | None]:
        if machines := self._machines(metric):
            return sorted(machines, reverse=True)
        return sorted(metric.ranks) if self.is_all else [self.rank]

    def series(
        self, connection: Connection, number: int, chosen: list[MetricName], **limits: int
    ) -> Iterator[MetricSeries]:
        """Asked for one by one: all values of a long job are more than fits into memory."""
        project, fetch = connection.project.id, connection.client.metric_series
        for metric in chosen:
            for rank in self._ranks(metric):
                yield fetch(project, number, metric.name, rank=rank, **limits)


def _chosen(
    connection: Connection,
    number: int,
    names: tuple[str, ...],
    view: _View,
    *,
    one: bool = False,
) -> list[MetricName]:
    """The metrics asked for, else all in the view, or with ``one`` the loss or the first number.

    Raises:
        NotFoundError: there is no such metric, or none at all.
    """
    from periflow_cli.names import unknown
    from periflow_sdk.errors import NotFoundError

    found = connection.client.metric_names(connection.project.id, number, system=view.has_system)
    known: dict[str, MetricName] = {}
    for each in found:
        known.setdefault(each.name, each)
    for name in names:
        if name not in known:
            raise unknown(
                "metric",
                name,
                list(known),
                f"pf job metrics list {number}",
                where=f"of job {number}",
            )
    if names:
        return [known[name] for name in names]
    shown = [each for each in known.values() if view.shows(each)]
    if shown and not one:
        return shown
    if favourite := _favourite(shown):
        return [favourite]
    raise NotFoundError(
        f"Job {number} has reported no numbers.",
        code="metric_not_found",
        hint=f"pf job metrics list {number}",
    )


def _favourite(known: list[MetricName]) -> MetricName | None:
    numbers = [each for each in known if each.kind == "number"]
    return next((each for each in numbers if each.name == "loss"), next(iter(numbers), None))
