"""`pf job sync`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from periflow_cli.group import Command, Invocation, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from periflow_cli.connection import Connection
    from periflow_sdk.agent.sync import Synced
    from periflow_sdk.errors import PeriFlowError


@click.command("sync", cls=Command)
@click.argument("source", metavar="DIR")
@json_option
@click.pass_obj
def sync_job(invocation: Invocation, /, source: str, as_json: bool) -> None:
    """Send what a run left that was local or cut off; what is there already is not sent again.

    DIR is the folder of an attached run, the node folder of a job, or a file that
    pf.init(local_log_name=...) wrote.
    """
    from pathlib import Path

    path = Path(source).expanduser()
    if not path.exists():
        raise _no_folder(source)
    output = invocation.output
    done = _sync(invocation.connect(), path.resolve())
    if as_json:
        output.json(
            {
                "job": done.job.number,
                "name": done.job.name,
                "status": done.job.status,
                "journal_bytes": done.journal_bytes,
                "log_bytes": done.log_bytes,
                "checkpoints": done.checkpoints,
            }
        )
    else:
        output.line(_sentence(done))
    output.hint(f"pf job view {done.job.number}")


def _no_folder(source: str) -> PeriFlowError:
    from periflow_sdk.environment import home
    from periflow_sdk.errors import UsageError

    is_job = source.isdecimal() or source == "latest"
    view = f"pf job view {source}" if is_job else "pf job view JOB"
    return UsageError(
        f"{source} does not exist: DIR is a folder or file on this machine"
        f"{', not a job' if is_job else ''}.",
        hint=f"What a job has left is named by `{view}` and its log; attached runs are in "
        f"{home() / 'attached'}.",
    )


def _sync(connection: Connection, path: Path) -> Synced:
    if path.is_file():
        from periflow_sdk.agent.locallog import sync_local_log

        return sync_local_log(connection.client, connection.project.id, path)
    from periflow_sdk.agent.sync import is_run_folder, sync_folder

    if path.name == "run" and is_run_folder(path.parent):
        path = path.parent
    return sync_folder(connection.client, connection.key, path)


def _sentence(done: Synced) -> str:
    from periflow_cli.moment import size_text

    parts = [
        f"{size_text(size)} of {what}"
        for size, what in ((done.journal_bytes, "records"), (done.log_bytes, "output"))
        if size
    ]
    if done.checkpoints:
        parts.append(f"{done.checkpoints} checkpoint{'' if done.checkpoints == 1 else 's'}")
    job = f"job {done.job.number} ({done.job.name})"
    if not parts:
        return f"{job[:1].upper()}{job[1:]} has everything already; it is {done.job.status}."
    listed = " and ".join(", ".join(parts).rsplit(", ", 1))
    return f"Sent {listed} to {job}; it is {done.job.status}."
