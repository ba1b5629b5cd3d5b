"""`pf job log`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from periflow_cli.group import Command, Invocation, json_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from periflow_cli.connection import Connection
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
    help="The last N lines [default: 100; all with --follow].",
)
@click.option("-t", "--timestamp", is_flag=True, help="Say when each line was printed.")
@json_option
@click.pass_obj
def print_log(
    invocation: Invocation,
    /,
    job: str,
    follow: bool,
    num_records: int | None,
    timestamp: bool,
    as_json: bool,
) -> None:
    """Print what a job has written to stdout and stderr."""
    from periflow_cli.jobs import find_job

    output = invocation.output
    connection = invocation.connect()
    found = find_job(connection, job)
    if follow:
        ended = follow_job(
            connection, output, found, num_records, timestamp=timestamp, as_json=as_json
        )
        output.note(sentence(ended))
        output.hint(f"pf job view {ended.number}")
        return
    page = connection.client.job_log(
        connection.project.id, found.number, limit=num_records or _LAST_LINES, tail=True
    )
    if as_json:
        output.json(page.lines)
        return
    columns = _Columns(timestamp=timestamp, nodes=len(found.nodes) > 1)
    output.text(*columns.texts(page.lines))
    if not page.lines:
        output.note(_silence(found))
    if not page.complete:
        output.hint(f"pf job log -f {found.number}")


def follow_job(
    connection: Connection,
    output: Output,
    job: JobDetail,
    num_records: int | None,
    *,
    timestamp: bool,
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
        for lines in follower.pages(num_records):
            if columns is None and lines:
                # Only now: a job that is followed from its beginning gets its nodes later.
                columns = _Columns(timestamp=timestamp, nodes=len(follower.job().nodes) > 1)
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

    def texts(self, lines: Sequence[LogLine]) -> list[str]:
        if not (self._timestamp or self._nodes):
            return [line.text for line in lines]
        from periflow_cli.moment import local_time

        texts = []
        for line in lines:
            time = f"{local_time(line.time)} " if self._timestamp else ""
            node = f"[{line.node}] " if self._nodes else ""
            texts.append(f"{time}{node}{line.text}")
        return texts
