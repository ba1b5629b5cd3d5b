"""`pf checkpoint list|view|download|delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from periflow_cli.group import Group, Invocation, deletion_options, json_option, limit_option

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
@limit_option
@click.option("--all", "whole", is_flag=True, help="Every one, however many there are.")
@json_option
@click.pass_obj
def list_checkpoints(
    invocation: Invocation, /, job: str | None, limit: int, whole: bool, as_json: bool
) -> None:
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
    found = connection.client.checkpoints(
        connection.project.id, job=number, limit=None if whole else limit + 1
    )
    checkpoints = found if whole else found[:limit]
    if as_json:
        output.json(checkpoints)
    else:
        rows = [checkpoint_row(each) for each in checkpoints]
        output.table(CHECKPOINT_COLUMNS, rows, spare=CHECKPOINT_SPARE_COLUMNS)
    if len(checkpoints) < len(found):
        output.note(f"There are older ones; --limit N shows more than {limit}, --all every one.")
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
            download.run(bar)
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


@group.command("delete")
@click.argument("checkpoints", nargs=-1, required=True, metavar="CHECKPOINT...")
@deletion_options
@json_option
@click.pass_obj
def delete_checkpoints(
    invocation: Invocation, /, checkpoints: tuple[str, ...], yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Delete checkpoints that no unfinished job needs; their jobs stay."""
    from periflow_cli.checkpoints import find_checkpoint
    from periflow_cli.deletion import before_any

    output = invocation.output
    connection = invocation.connect()
    client, project = connection.client, connection.project.id
    named = [find_checkpoint(connection, reference) for reference in checkpoints]
    found = list({each.id: each for each in named}.values())
    with before_any(len(found)):
        for each in found:
            client.delete_checkpoint(project, each.id, dry_run=True)
    what = f"{len(found)} checkpoints" if len(found) > 1 else f"checkpoint {found[0].id}"
    lines, question = map(_loss, found), f"Delete {what}?"
    is_wanted = output.confirm_deletion(lines, question, yes=yes, dry_run=dry_run, as_json=as_json)
    for each in found if is_wanted else ():
        client.delete_checkpoint(project, each.id)
        if not as_json:
            output.line(f"Deleted checkpoint {each.id}.")
    if as_json:
        output.json(found)
    output.hint_deletion("checkpoint", (each.id for each in found), dry_run=dry_run)


def _loss(checkpoint: Checkpoint) -> str:
    from periflow_cli.moment import size_text

    kind = "emergency, " if checkpoint.save_type == "EMERGENCY" else ""
    status = size_text(checkpoint.size) if checkpoint.status == "ready" else checkpoint.status
    return f"{checkpoint.id}: job {checkpoint.job}, step {checkpoint.step}, {kind}{status}"


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
