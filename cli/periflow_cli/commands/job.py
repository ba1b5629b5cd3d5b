"""`pf job list|view|stop|preempt`, and the group that the other job commands join."""

from __future__ import annotations

import click

from periflow_cli.commands.job_delete import delete_jobs
from periflow_cli.commands.job_log import print_log
from periflow_cli.commands.job_metric import group as metrics
from periflow_cli.commands.job_run import run_job
from periflow_cli.commands.job_sync import sync_job
from periflow_cli.commands.job_template import group as template
from periflow_cli.group import Group, Invocation, json_option, limit_option, yes_option

_STATUSES = (
    *("waiting", "allocating", "preparing", "running", "stopping"),
    *("success", "failed", "stopped"),
)
_TIME = "2030-01-31, or 2030-01-31T12:00:00; local, unless it says otherwise."


@click.group("job", cls=Group)
def group() -> None:
    """Jobs: commands that run on a VM, with your code, data and checkpoints.

    JOB is a number, a name, `latest` or the unique start of an id.
    """


group.add_command(run_job)


@group.command("list")
@click.option(
    "--status",
    "statuses",
    type=click.Choice(_STATUSES),
    multiple=True,
    metavar="STATUS",
    help=f"Only those that are so: {', '.join(_STATUSES)}. Can be given several times.",
)
@click.option("--since", metavar="TIME", help=f"Only those created at or after this. {_TIME}")
@click.option("--until", metavar="TIME", help="Only those created at or before this.")
@click.option("--job-name", "name", metavar="NAME", help="Only those of this name.")
@click.option("--vm", metavar="VM", help="Only those on this VM type.")
@click.option(
    "-a/-m",
    "--all/--mine",
    "everybodys",
    default=True,
    help="Everybody's jobs, which is the default, or only your own.",
)
@limit_option
@json_option
@click.pass_obj
def list_jobs(
    invocation: Invocation,
    /,
    statuses: tuple[str, ...],
    since: str | None,
    until: str | None,
    name: str | None,
    vm: str | None,
    everybodys: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List the jobs of the project, newest first."""
    from periflow_cli.jobs import LIST_COLUMNS, SPARE_COLUMNS, list_row
    from periflow_cli.moment import moment_of
    from periflow_sdk.api.models import JobFilter

    output = invocation.output
    fields = {
        "status": list(statuses),
        "since": since and moment_of(since, "--since"),
        "until": until and moment_of(until, "--until"),
        "name": name,
        "vm": vm,
        "mine": not everybodys,
    }
    where = JobFilter.model_validate(fields)
    connection = invocation.connect()
    jobs = connection.client.jobs(connection.project.id, limit=limit + 1, where=where)
    jobs, more = jobs[:limit], jobs[limit:]
    if as_json:
        output.json(jobs)
    else:
        rows = [list_row(each, relative=output.boxes) for each in jobs]
        output.table(LIST_COLUMNS, rows, spare=SPARE_COLUMNS)
    if more:
        output.note(f"There are older ones; --limit N shows more than {limit}.")
    if not as_json:
        hint = "pf job list" if where != JobFilter() else "pf job run -f FILE -d DIR"
        output.hint(f"pf job view {jobs[0].number}" if jobs else hint)


@group.command("view")
@click.argument("job")
@click.option("--system", is_flag=True, help="Show the machines, the packages and the code.")
@json_option
@click.pass_obj
def view_job(invocation: Invocation, /, job: str, system: bool, as_json: bool) -> None:
    """Show a job: progress, attempts, events, checkpoints; the end of its log if it failed."""
    from periflow_cli.jobs import find_job, show_job

    output = invocation.output
    connection = invocation.connect()
    found = find_job(connection, job)
    if as_json:
        output.json(found)
        return
    if system:
        from periflow_cli.system import show_system

        show_system(output, connection, found)
        return
    show_job(output, found)
    if any(each.status == "ready" for each in found.checkpoints):
        newest = max(found.checkpoints, key=lambda each: each.created_at)
        output.hint(f"pf checkpoint download {newest.id}")
    else:
        output.hint(f"pf job log {found.number}")


group.add_command(print_log)


@group.command("stop")
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@click.option("--now", is_flag=True, help="End them at once, without a last checkpoint.")
@yes_option
@json_option
@click.pass_obj
def stop_jobs(
    invocation: Invocation, /, jobs: tuple[str, ...], now: bool, yes: bool, as_json: bool
) -> None:
    """Stop jobs: they save and end, or are made to. Their checkpoints stay.

    Stopping a job that is stopping already ends it at once, as --now does.
    """
    from periflow_cli.jobs import find_job, require_unended

    output = invocation.output
    connection = invocation.connect()
    found = [find_job(connection, reference) for reference in jobs]
    require_unended(found)
    names = ", ".join(f"{each.number} ({each.name})" for each in found)
    output.confirm(f"Stop job {names}?", yes=yes)
    client, project = connection.client, connection.project.id
    stopped = [client.stop_job(project, each.number, now=now) for each in found]
    if as_json:
        output.json(stopped)
    for each in stopped:
        if not as_json:
            output.line(f"Job {each.number} ({each.name}) is {each.status}.")
    output.hint(f"pf job view {stopped[0].number}")


group.add_command(delete_jobs)


@group.command("preempt")
@click.argument("job")
@click.option(
    "--grace", type=click.FloatRange(0, 3600, min_open=True), help="Seconds the job has left."
)
@json_option
@click.pass_obj
def preempt_job(invocation: Invocation, /, job: str, grace: float | None, as_json: bool) -> None:
    """Rehearse a preemption: the job saves, ends, and goes on from that checkpoint.

    It is what happens when a cloud takes a spot machine back.
    """
    from periflow_cli.jobs import find_job

    output = invocation.output
    connection = invocation.connect()
    number = find_job(connection, job).number
    told = connection.client.preempt_job(connection.project.id, number, grace_seconds=grace)
    if as_json:
        output.json(told)
    else:
        output.line(f"Job {told.number} ({told.name}) is told that its node will be taken.")
    output.hint(f"pf job log -f {told.number}")


group.add_command(sync_job)
group.add_command(template)
group.add_command(metrics)
