"""`pf job log`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from periflow_cli.group import Command, Invocation, json_option
from periflow_sdk.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from periflow_cli.connection import Connection
    from periflow_cli.logselection import Selection
    from periflow_cli.output import Output
    from periflow_sdk.api.models import JobDetail, LogLine

_LAST_LINES = 100
_ENDS = {"success": "succeeded", "failed": "failed", "stopped": "was stopped"}


@click.command("log", cls=Command)
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job ends.")
@click.option(
    "-n",
    "--num-records",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="The last N lines [default: 100; all with --follow and --export-path].",
)
@click.option("--head", is_flag=True, help="The first lines, not the last ones.")
@click.option("-c", "--content", metavar="TEXT", help="Only lines with this text.")
@click.option("-m", "--machine", metavar="RANKS", help="Only lines of these nodes, such as 0,1.")
@click.option(
    "-e",
    "--export-path",
    type=click.Path(path_type=Path, dir_okay=False, writable=True),
    metavar="FILE",
    help="Write the lines to a file.",
)
@click.option("-t", "--timestamp", is_flag=True, help="Say when each line was printed.")
@click.option("--show-machine-id", is_flag=True, help="Say which node printed each line.")
@json_option
@click.pass_obj
def print_log(
    invocation: Invocation,
    /,
    job: str,
    follow: bool,
    num_records: int | None,
    head: bool,
    content: str | None,
    machine: str | None,
    export_path: Path | None,
    timestamp: bool,
    show_machine_id: bool,
    as_json: bool,
) -> None:
    """Print what a job has written to stdout and stderr."""
    from periflow_cli.jobs import find_job
    from periflow_cli.logselection import Selection

    if follow and (head or export_path is not None):
        raise UsageError(
            "--follow does not go together with --head or --export-path",
            hint="leave one of them out",
        )
    count = num_records or (None if follow or export_path is not None else _LAST_LINES)
    selection = Selection(content, _ranks(machine), count, head)
    output = invocation.output
    connection = invocation.connect()
    found = find_job(connection, job)
    several = show_machine_id or len(found.nodes) > 1
    if follow:
        ended = follow_job(
            connection,
            output,
            found,
            selection,
            timestamp=timestamp,
            nodes=show_machine_id,
            as_json=as_json,
        )
        output.note(sentence(ended))
        output.hint(f"pf job view {ended.number}")
        return
    lines, is_complete = selection.lines(connection, found.number)
    columns = _Columns(timestamp=timestamp, nodes=several)
    if export_path is not None:
        number = _export(export_path, lines, columns, as_json=as_json)
        output.note(f"Wrote {number:,} lines to {export_path}.")
        return
    lines = [*lines]
    if as_json:
        output.json(lines)
        return
    output.text(*columns.texts(lines))
    if not lines:
        is_selected = content is not None or machine is not None
        output.note("No line is like that." if is_selected else _silence(found))
    if not is_complete:
        output.hint(f"pf job log -f {found.number}")


def _ranks(text: str | None) -> frozenset[int] | None:
    if text is None:
        return None
    try:
        return frozenset(int(rank) for rank in text.split(","))
    except ValueError:
        raise UsageError(
            f"--machine {text!r} is no list of node ranks", hint="for example: --machine 0,1"
        ) from None


def _export(path: Path, lines: Iterable[LogLine], columns: _Columns, *, as_json: bool) -> int:
    """Write lines to a file that appears when it is whole; how many they were."""
    from periflow_cli.wholefile import whole_file

    written = 0
    try:
        with whole_file(path) as file:
            for line in lines:
                written += 1
                text = line.model_dump_json() if as_json else columns.text(line)
                file.write(f"{text}\n")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror}", hint="name another file"
        ) from error
    return written


def follow_job(
    connection: Connection,
    output: Output,
    job: JobDetail,
    selection: Selection | None = None,
    *,
    timestamp: bool = False,
    nodes: bool = False,
    as_json: bool,
) -> JobDetail:
    """Print a job's log until it ends; the job as it is then.

    Raises:
        Abort: Ctrl-C, after saying that the job goes on.
    """
    from periflow_cli.follow import Follower

    follower = Follower(connection, job.number, output)
    columns = None
    try:
        for page in follower.pages(selection.count if selection is not None else None):
            lines = page if selection is None else [*selection.wanted(page)]
            if columns is None and lines:
                # Only now: a job that is followed from its beginning gets its nodes later.
                several = nodes or len(follower.job().nodes) > 1
                columns = _Columns(timestamp=timestamp, nodes=several)
            if as_json:
                output.json_lines(lines)
            elif columns is not None:
                output.text(*columns.texts(lines))
        return follower.job()
    except KeyboardInterrupt:
        output.note("")
        output.note(f"Job {job.number} goes on: only the log was left.")
        output.hint(f"pf job log -f {job.number}, or pf job stop {job.number}")
        raise


def sentence(job: JobDetail) -> str:
    """How a job ended."""
    reason = f": {job.reason.rstrip('.')}" if job.reason and job.status == "failed" else ""
    return f"Job {job.number} ({job.name}) {_ENDS.get(job.status, job.status)}{reason}."


def _silence(job: JobDetail) -> str:
    if job.status in _ENDS:
        return f"Job {job.number} {_ENDS[job.status]} and printed nothing."
    return f"Job {job.number} is {job.status} and has printed nothing yet."


class _Columns:
    """What is printed before each line: its time if wanted, its node where there are several."""

    def __init__(self, *, timestamp: bool, nodes: bool) -> None:
        self._timestamp = timestamp
        self._nodes = nodes

    def texts(self, lines: Iterable[LogLine]) -> list[str]:
        return [self.text(line) for line in lines]

    def text(self, line: LogLine) -> str:
        if not (self._timestamp or self._nodes):
            return line.text
        from periflow_cli.moment import local_time

        time = f"{local_time(line.time)} " if self._timestamp else ""
        node = f"[{line.node}] " if self._nodes else ""
        return f"{time}{node}{line.text}"
