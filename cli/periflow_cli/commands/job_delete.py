"""`pf job delete`."""

from __future__ import annotations

import click

from periflow_cli.group import Command, Invocation, deletion_options, json_option


@click.command("delete", cls=Command)
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@deletion_options
@json_option
@click.pass_obj
def delete_jobs(
    invocation: Invocation, /, jobs: tuple[str, ...], yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Delete jobs that have ended, with their logs, metrics and checkpoints."""
    from periflow_cli.deletion import JobLoss, before_any
    from periflow_cli.jobs import find_job

    output = invocation.output
    connection = invocation.connect()
    client, project = connection.client, connection.project.id
    found = {each.id: each for each in [find_job(connection, reference) for reference in jobs]}
    with before_any(len(found)):
        for job_id in found:
            client.delete_job(project, job_id, dry_run=True)
    losses = [JobLoss.of(connection, each) for each in found.values()]
    titles = ", ".join(each.title for each in losses)
    question = f"Delete job {titles} with all logs, metrics and checkpoints?"
    lines = [each.line for each in losses]
    is_wanted = output.confirm_deletion(lines, question, yes=yes, dry_run=dry_run, as_json=as_json)
    for each in losses if is_wanted else ():
        client.delete_job(project, each.job.id)
        if not as_json:
            output.line(f"Deleted job {each.title}.")
    if as_json:
        output.json([each.document for each in losses])
    output.hint_deletion("job", (str(each.job.number) for each in losses), dry_run=dry_run)
