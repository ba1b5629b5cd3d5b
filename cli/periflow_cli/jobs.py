"""Jobs as the commands show them."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from periflow_cli.moment import ago, duration, local_time, progress, rfc3339, size_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from periflow_cli.connection import Connection
    from periflow_cli.output import Output
    from periflow_sdk.api.models import Checkpoint, Event, Job, JobDataset, JobDetail

CHECKPOINT_COLUMNS = ("ID", "Job", "Step", "Save type", "Status", "Size", "Created at")
LIST_COLUMNS = (
    "Number",
    "Name",
    "Status",
    "VM",
    "Device",
    "Device Cnt",
    "Data",
    "Created by",
    "Start",
    "Duration",
    "Progress",
)
SPARE_COLUMNS = ("Device", "Created by", "Data", "VM", "Device Cnt", "Start")
CHECKPOINT_SPARE_COLUMNS = ("Job", "Created at", "Status")
_OF_CHECKPOINTS = ("checkpoint", "retention")
"""Kinds of events that come with every checkpoint."""
_LONGEST = 10
"""Rows of checkpoints that a person is shown among the rest of a job."""


def find_job(connection: Connection, reference: str) -> JobDetail:
    """The job of a number, name, id, unique id prefix or ``latest``.

    Raises:
        NotFoundError: with the nearest names.
        ConflictError: the name means several.
    """
    from periflow_cli.names import known

    client, project = connection.client, connection.project

    def names() -> list[str]:
        return [name for each in client.jobs(project.id) for name in (each.name, str(each.number))]

    with known("job", reference, names, "pf job list", where=f"in project {project.name}"):
        return client.job(project.id, reference)


def require_unended(jobs: Sequence[Job]) -> None:
    """See that all of several jobs can still be stopped, before any is.

    Raises:
        ConflictError: one has ended.
    """
    from periflow_sdk.api.models import TERMINAL_STATUSES
    from periflow_sdk.errors import ConflictError

    for job in jobs:
        if job.status in TERMINAL_STATUSES:
            others = " None was stopped." if len(jobs) > 1 else ""
            raise ConflictError(
                f"Job {job.number} has ended already: {job.status}.{others}",
                code="job_finished",
                hint=f"Run `pf job view {job.number}`.",
            )


def list_row(job: Job, *, relative: bool) -> tuple[str, ...]:
    """A line of `pf job list`; ``relative`` says "3 mins ago" instead of a date."""
    return (
        str(job.number),
        job.name,
        job.status,
        job.vm,
        job.device,
        str(job.num_devices),
        job.data or "-",
        job.created_by,
        _when(job.started_at, relative=relative),
        duration(job.started_at, job.finished_at),
        progress(job.step, job.total_steps),
    )


def checkpoint_row(checkpoint: Checkpoint) -> tuple[str, ...]:
    """A line of a table with ``CHECKPOINT_COLUMNS``."""
    return (
        checkpoint.id,
        str(checkpoint.job),
        str(checkpoint.step),
        checkpoint.save_type,
        checkpoint.status,
        size_text(checkpoint.size),
        local_time(checkpoint.created_at),
    )


def show_job(output: Output, job: JobDetail) -> None:
    """Print everything about a job."""
    from periflow_cli.section import Fields, Lines

    output.sections(Fields("Overview", _overview(job, relative=output.boxes)))
    _show_attempts(output, job)
    _show_events(output, job)
    checkpoints = [checkpoint_row(each) for each in job.checkpoints]
    # A person sees the newest; a pipe gets all.
    shown = checkpoints[:_LONGEST] if output.boxes else checkpoints
    output.table(CHECKPOINT_COLUMNS, shown, "Checkpoints", spare=CHECKPOINT_SPARE_COLUMNS)
    if len(shown) < len(checkpoints):
        output.note(f"Older ones: pf checkpoint list --job {job.number} --all")
    if job.status == "failed" and job.log_tail:
        output.line()
        output.sections(Lines("Last lines of the log", job.log_tail))


def _show_events(output: Output, job: JobDetail) -> None:
    events = _folded(job.events) if output.boxes else [(each, 0) for each in job.events]
    rows = [
        (
            local_time(each.time),
            _text(each.attempt),
            each.kind,
            each.message if not before else f"{each.message} {_before(before)}.",
        )
        for each, before in events
    ]
    output.table(("Time", "Attempt", "Event", "Message"), rows, "Events", spare=("Attempt",))


def _folded(events: Sequence[Event]) -> list[tuple[Event, int]]:
    """The events, of many checkpoints in a row the last alone, with how many were before it.

    Those that retention rules remove meanwhile do not end the row; of them, too, the last is shown.
    """
    folded: list[tuple[Event, int]] = []
    for _, group in groupby(events, key=_sort):
        run = list(group)
        if run[0].kind in _OF_CHECKPOINTS and len(run) > _LONGEST:
            lasts = {each.kind: each for each in run}
            shown = [each for each in run if each is lasts[each.kind]]
            folded += [(last, sum(e.kind == last.kind for e in run) - 1) for last in shown]
        else:
            folded += [(each, 0) for each in run]
    return folded


def _sort(event: Event) -> tuple[str, int | None]:
    return _OF_CHECKPOINTS[0] if event.kind in _OF_CHECKPOINTS else event.kind, event.attempt


def _show_attempts(output: Output, job: JobDetail) -> None:
    rows = [
        (
            str(each.number),
            each.status,
            _text(each.exit_code),
            each.reason or "-",
            _when(each.started_at, relative=output.boxes),
            duration(each.started_at, each.finished_at),
        )
        for each in job.attempts
    ]
    columns = ("Attempt", "Status", "Exit code", "Reason", "Start", "Duration")
    output.table(columns, rows, "Attempts", spare=("Start", "Exit code"))


def _dataset(dataset: JobDataset) -> str:
    version = f" (version {dataset.version})" if dataset.version is not None else ""
    return f"{dataset.name}{version}"


def _overview(job: JobDetail, *, relative: bool) -> list[tuple[str, str]]:
    pairs = [
        ("ID", job.id),
        ("Number", str(job.number)),
        ("Name", job.name),
        ("Status", job.status),
        ("VM", job.vm),
        ("Device", job.device),
        ("Device Cnt", str(job.num_devices)),
        ("Data", ", ".join(map(_dataset, job.datasets)) or job.data or "-"),
        ("Start", _when(job.started_at, relative=relative)),
        ("Duration", duration(job.started_at, job.finished_at)),
        ("Progress", _steps(job)),
        *_durability(job),
        *_retention(job),
    ]
    if job.status == "failed":
        pairs += [("Error", job.reason or "-"), ("Exit code", _text(job.exit_code))]
    elif job.reason:
        pairs.append(("Reason", job.reason))
    return pairs


def _durability(job: JobDetail) -> list[tuple[str, str]]:
    """What a lost node would cost, and how fast the last emergency save was."""
    pairs = []
    if (steps := job.steps_not_durable) is not None:
        pairs.append(("Not durable", f"{steps} step{'' if steps == 1 else 's'}"))
    if job.notice_to_durable_seconds is not None:
        seconds = f"{job.notice_to_durable_seconds:.1f} s"
        pairs.append(("Last emergency", f"durable {seconds} after the notice"))
    return pairs


def _retention(job: JobDetail) -> list[tuple[str, str]]:
    from periflow_sdk.api.jobfile import Retention

    rules = job.spec.get("retention")
    return [("Retention", str(Retention.model_validate(rules)))] if rules else []


def _before(count: int) -> str:
    return "1 was before it" if count == 1 else f"{count} were before it"


def _steps(job: Job) -> str:
    if job.step is None or not job.total_steps:
        return progress(job.step, job.total_steps)
    if job.step > job.total_steps:
        return f"step {job.step} (more than the {job.total_steps} announced)"
    return f"{progress(job.step, job.total_steps)} (step {job.step} of {job.total_steps})"


def _when(moment: datetime | None, *, relative: bool) -> str:
    if moment is None:
        return "-"
    return ago(moment) if relative else rfc3339(moment)


def _text(value: int | None) -> str:
    return "-" if value is None else str(value)
