"""`pf checkpoint list|view|download`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from periflow_cli.group import Group, Invocation, json_option

if TYPE_CHECKING:
    from periflow_cli.output import Output
    from periflow_sdk.api.models import Checkpoint
    from periflow_sdk.snapshots.manifest import Manifest


@click.group("checkpoint", cls=Group)
def group() -> None:
    """Checkpoints: what jobs have saved.

    CHECKPOINT is an id, the unique start of one, or `latest`.
    """


@group.command("list")
@click.option("--job", metavar="JOB", help="Of one job only: number, name, id or latest.")
@json_option
@click.pass_obj
def list_checkpoints(invocation: Invocation, /, job: str | None, as_json: bool) -> None:
    """List checkpoints, newest first."""
    from periflow_cli.jobs import (
        CHECKPOINT_COLUMNS,
        CHECKPOINT_SPARE_COLUMNS,
        checkpoint_row,
        find_job,
    )

    output = invocation.output
    connection = invocation.connect()
    number = find_job(connection, job).number if job is not None else None
    checkpoints = connection.client.checkpoints(connection.project.id, job=number)
    if as_json:
        output.json(checkpoints)
    else:
        rows = [checkpoint_row(each) for each in checkpoints]
        output.table(CHECKPOINT_COLUMNS, rows, spare=CHECKPOINT_SPARE_COLUMNS)
    output.hint("pf checkpoint download ID" if checkpoints else "pf job list")


@group.command("view")
@click.argument("checkpoint")
@json_option
@click.pass_obj
def view_checkpoint(invocation: Invocation, /, checkpoint: str, as_json: bool) -> None:
    """Show a checkpoint and its files."""
    from periflow_cli.checkpoints import find_checkpoint
    from periflow_sdk.snapshots.download import read_manifest

    output = invocation.output
    connection = invocation.connect()
    found = find_checkpoint(connection, checkpoint)
    manifest = None
    if found.snapshot_id:
        manifest = read_manifest(connection.client, connection.project.id, found.snapshot_id)
    if as_json:
        files = [] if manifest is None else manifest.files
        document = found.model_dump(mode="json")
        output.json({**document, "files": [{"path": x.path, "size": x.size} for x in files]})
    else:
        _show(output, found, manifest)
    output.hint(f"pf checkpoint download {found.id}")


@group.command("download")
@click.argument("checkpoint")
@click.option(
    "-d",
    "--save-directory",
    "folder",
    metavar="DIR",
    help="Where the files land (default: ./checkpoint-JOB-stepSTEP).",
)
@click.option("--force", is_flag=True, help="Replace files that are there already.")
@click.option("--dry-run", is_flag=True, help="Show what would be fetched, and fetch nothing.")
@json_option
@click.pass_obj
def download_checkpoint(
    invocation: Invocation,
    /,
    checkpoint: str,
    folder: str | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Download a checkpoint. Interrupted and run again, it fetches only the rest."""
    import shlex
    from pathlib import Path

    from periflow_cli.checkpoints import find_checkpoint, snapshot_of
    from periflow_cli.download import Download
    from periflow_cli.moment import size_text
    from periflow_cli.transfer import Bar

    output = invocation.output
    connection = invocation.connect()
    found = find_checkpoint(connection, checkpoint)
    target = Path(folder or f"checkpoint-{found.job}-step{found.step}")
    download = Download(connection, snapshot_of(found), target, force=force)
    manifest = download.check()
    if dry_run:
        _show_files(output, found, manifest, as_json)
        return
    try:
        with Bar("Downloading", manifest.size) as bar:
            download.run(manifest, bar)
    except KeyboardInterrupt:
        command = ["pf", "checkpoint", "download", found.id, "-d", str(target)]
        output.note(f"Interrupted. This fetches only the rest: {shlex.join(command)}")
        raise
    if as_json:
        output.json({**found.model_dump(mode="json"), "path": str(target.absolute())})
    else:
        output.line(
            f"Checkpoint {found.id} (job {found.job}, step {found.step}) is in {target}: "
            f"{size_text(manifest.size)} {bar.summary()}."
        )
    output.hint(f"ls {shlex.quote(str(target))}")


def _show(output: Output, checkpoint: Checkpoint, manifest: Manifest | None) -> None:
    from periflow_cli.datasets import file_entries
    from periflow_cli.moment import local_time, size_text
    from periflow_cli.section import Fields, Files

    pairs = [
        ("ID", checkpoint.id),
        ("Job", str(checkpoint.job)),
        ("Step", str(checkpoint.step)),
        ("Save type", checkpoint.save_type),
        ("Status", checkpoint.status),
        ("Size", size_text(checkpoint.size)),
        ("Created at", local_time(checkpoint.created_at)),
    ]
    if checkpoint.reason:
        pairs.append(("Reason", checkpoint.reason))
    files = file_entries(manifest) if manifest is not None else []
    output.sections(Fields("Overview", pairs), Files("Files", files))


def _show_files(output: Output, checkpoint: Checkpoint, manifest: Manifest, as_json: bool) -> None:
    from periflow_cli.datasets import file_entries
    from periflow_cli.section import Files

    if as_json:
        document = checkpoint.model_dump(mode="json")
        output.json(
            {**document, "files": [{"path": x.path, "size": x.size} for x in manifest.files]}
        )
    else:
        output.sections(Files("Files", file_entries(manifest)))
