"""`pf job run`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from periflow_cli.group import Command, Invocation, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from periflow_cli.connection import Connection
    from periflow_cli.output import Output
    from periflow_cli.submission import Submission
    from periflow_sdk.api.jobfile import JobSpec
    from periflow_sdk.api.models import JobDetail
    from periflow_sdk.errors import PeriFlowError


@click.command("run", cls=Command)
@click.option("-f", "--file", "file", required=True, metavar="FILE", help="The job file (YAML).")
@click.option(
    "-d", "-w", "--workspace-dir", "folder", metavar="DIR", help="Your code; it keeps its name."
)
@click.option("-n", "--name", metavar="NAME", help="Name of the job, before the file's.")
@click.option("-v", "--vm", metavar="VM", help="VM type, before the file's.")
@click.option(
    "--num-devices", type=click.IntRange(1), metavar="N", help="Devices, before the file's."
)
@click.option("--wait", is_flag=True, help="Follow the log; exit code 8 if the job fails.")
@click.option("--dry-run", is_flag=True, help="Check everything and send nothing.")
@json_option
@click.pass_obj
def run_job(
    invocation: Invocation,
    /,
    file: str,
    folder: str | None,
    name: str | None,
    vm: str | None,
    num_devices: int | None,
    wait: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Run a job.

    The folder is sent without what .pfignore and .gitignore name, and without secrets.
    """
    from pathlib import Path

    from periflow_cli.submission import Submission

    output = invocation.output
    spec = _read(file, folder, vm, num_devices)
    if name is not None:
        spec = _named(spec, name)
    workspace = _folder(folder)
    if workspace is None and "workspace" in spec.job_setting.model_fields_set:
        raise _folder_missing(file)
    submission = Submission(output, spec, workspace, _line(file, folder))
    submission.plan()
    connection = invocation.connect()
    submission.check(connection)
    submission.announce()
    if dry_run:
        _show_dry_run(output, spec, submission, as_json)
        return
    resume = shlex.join(["pf", "job", "run", "-f", str(Path(file)), *_folder_option(folder)])
    job = submission.submit(connection, resume)
    if not as_json:
        output.line(f"Job {job.number} ({job.name}) is submitted.")
    if not wait:
        if as_json:
            output.json(job)
        output.hint(f"pf job log -f {job.number}")
        return
    ended = _follow(connection, output, job, as_json)
    if ended.status != "success":
        raise _failure(ended)


def _follow(connection: Connection, output: Output, job: JobDetail, as_json: bool) -> JobDetail:
    """Print the log (beside the one JSON document, if that was asked for) until the job ends."""
    from periflow_cli.commands.job_log import follow_job, sentence

    beside = output.aside() if as_json else output
    ended = follow_job(connection, beside, job, as_json=False)
    if as_json:
        output.json(ended)
    if ended.status == "success":
        output.note(sentence(ended))
        output.hint(f"pf job view {ended.number}")
    return ended


def _read(file: str, folder: str | None, vm: str | None, num_devices: int | None) -> JobSpec:
    from pathlib import Path

    from periflow_sdk.api.jobfile import load_job_file
    from periflow_sdk.errors import JobFileError

    try:
        return load_job_file(Path(file), vm=vm, num_devices=num_devices)
    except JobFileError as error:
        if error.code == "vm_missing":
            error.hint = f"{_line(file, folder)} --vm {vm or 'local-cpu'} --num-devices " + (
                str(num_devices) if num_devices else "1"
            )
        raise


def _folder(folder: str | None) -> Path | None:
    from pathlib import Path

    from periflow_sdk.errors import UsageError

    if folder is None:
        return None
    path = Path(folder).expanduser()
    if path.is_dir():
        return path.resolve()
    what = "is not a folder" if path.exists() else "does not exist"
    raise UsageError(
        f"The workspace folder {folder} {what}.", hint="Give the folder of your code with -d DIR."
    )


def _named(spec: JobSpec, name: str) -> JobSpec:
    from periflow_sdk.api.jobtext import name_complaint
    from periflow_sdk.errors import UsageError

    if complaint := name_complaint(name):
        raise UsageError(f"The name of a job {complaint}.", hint="Choose another one for --name.")
    return spec.model_copy(update={"name": name})


def _folder_missing(file: str) -> PeriFlowError:
    from periflow_sdk.errors import UsageError

    return UsageError(
        "The job file has a workspace: give its folder with -d DIR.", hint=_line(file, ".")
    )


def _line(file: str, folder: str | None) -> str:
    """The command as it was typed, without VM and devices."""
    return shlex.join(["pf", "job", "run", "-f", file, *_folder_option(folder)])


def _folder_option(folder: str | None) -> list[str]:
    return ["-d", folder] if folder is not None else []


def _show_dry_run(output: Output, spec: JobSpec, submission: Submission, as_json: bool) -> None:
    if as_json:
        output.json({"spec": spec.model_dump(mode="json"), "workspace": submission.summary()})
    else:
        output.line(f"The job could run on {spec.vm} with {spec.num_devices} device(s).")


def _failure(job: JobDetail) -> PeriFlowError:
    from periflow_cli.commands.job_log import sentence
    from periflow_sdk.errors import PeriFlowError

    hint = f"pf job view {job.number}"
    return PeriFlowError(sentence(job), code="job_failed", hint=hint)
