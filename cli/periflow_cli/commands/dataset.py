"""`pf dataset upload|list|view|delete`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from periflow_cli.group import Group, Invocation, json_option, yes_option

if TYPE_CHECKING:
    from periflow_cli.connection import Connection
    from periflow_cli.output import Output
    from periflow_sdk.api.models import Dataset, Snapshot
    from periflow_sdk.snapshots.manifest import Manifest
    from periflow_sdk.snapshots.scan import Plan


@click.group("dataset", cls=Group)
def group() -> None:
    """Datasets: folders of training data, stored once and mounted into jobs."""


@group.command("upload")
@click.option("-n", "--name", required=True, metavar="NAME", help="Name of the dataset.")
@click.option(
    "-p",
    "--path",
    required=True,
    metavar="PATH",
    help="Folder or file. With a slash at the end the folder's contents, else the folder itself.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@json_option
@click.pass_obj
def upload_dataset(
    invocation: Invocation, /, name: str, path: str, dry_run: bool, as_json: bool
) -> None:
    """Upload a dataset. Interrupted and run again, it sends only the rest."""
    from pathlib import Path

    from periflow_cli.source import plan_source
    from periflow_sdk.api.models import DatasetCreate

    output = invocation.output
    DatasetCreate(name=name, snapshot_id="")
    keep_name = not path.endswith("/")
    _check_source(path)
    plan = plan_source(Path(path), keep_name=keep_name)
    if not plan.file_count:
        output.note(f"Warning: {path} has no files.")
    if dry_run:
        _show_plan(output, name, plan, as_json)
        return
    connection = invocation.connect()
    _refuse_taken(connection, name)
    snapshot, how = _send(connection, output, name, path, plan)
    body = DatasetCreate(name=name, snapshot_id=snapshot.id)
    dataset = connection.client.create_dataset(connection.project.id, body)
    if as_json:
        output.json(dataset)
    else:
        size = _amount(dataset.size, dataset.file_count)
        output.line(f"Uploaded dataset {dataset.name}: {size} {how}.")
    output.hint(f"pf dataset view {dataset.name}")


@group.command("list")
@json_option
@click.pass_obj
def list_datasets(invocation: Invocation, /, as_json: bool) -> None:
    """List the datasets of the project."""
    output = invocation.output
    connection = invocation.connect()
    datasets = connection.client.datasets(connection.project.id)
    if as_json:
        output.json(datasets)
        return
    rows = [[value for _, value in _overview(each)] for each in datasets]
    output.table(("Name", "Cloud", "Region", "Storage Name", "Active"), rows)
    output.hint("pf dataset view NAME" if datasets else "pf dataset upload -n NAME -p PATH")


@group.command("view")
@click.argument("name")
@json_option
@click.pass_obj
def view_dataset(invocation: Invocation, /, name: str, as_json: bool) -> None:
    """Show a dataset and its files."""
    from periflow_sdk.snapshots.download import read_manifest

    output = invocation.output
    connection = invocation.connect()
    dataset = find_dataset(connection, name)
    manifest = None
    if dataset.snapshot_id:
        manifest = read_manifest(connection.client, connection.project.id, dataset.snapshot_id)
    if as_json:
        files = (
            [{"path": file.path, "size": file.size} for file in manifest.files] if manifest else []
        )
        output.json({**dataset.model_dump(mode="json"), "files": files})
        return
    _show(output, dataset, manifest)
    output.hint(
        f"{_amount(dataset.size, dataset.file_count)}; use it in a job with "
        f"data: {{name: {dataset.name}, mount_path: /workspace/data}}"
    )


@group.command("delete")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@yes_option
@json_option
@click.pass_obj
def delete_datasets(
    invocation: Invocation, /, names: tuple[str, ...], yes: bool, as_json: bool
) -> None:
    """Delete datasets."""
    output = invocation.output
    connection = invocation.connect()
    datasets = [find_dataset(connection, name) for name in names]
    for each in datasets:
        output.note(f"{each.name}: {_amount(each.size, each.file_count)}")
    output.confirm(f"Delete {', '.join(each.name for each in datasets)}?", yes=yes)
    for each in datasets:
        connection.client.delete_dataset(connection.project.id, each.id)
        if not as_json:
            output.line(f"Deleted dataset {each.name}.")
    if as_json:
        output.json(datasets)
    output.hint("pf dataset list")


def find_dataset(connection: Connection, name: str) -> Dataset:
    """The dataset of a name or id.

    Raises:
        NotFoundError: with the nearest names.
    """
    from periflow_cli.names import known

    client, project = connection.client, connection.project
    with known(
        "dataset",
        name,
        lambda: [each.name for each in client.datasets(project.id)],
        "pf dataset list",
        where=f"in project {project.name}",
    ):
        return client.dataset(project.id, name)


def _check_source(path: str) -> None:
    from periflow_sdk.errors import UsageError

    if not os.path.lexists(path.rstrip("/") or "/"):
        raise UsageError(f"There is no folder or file {path}.")
    if path.endswith("/") and not os.path.isdir(path):  # noqa: PTH112 - the slash counts
        raise UsageError(
            f"{path} is not a folder.", hint=f"Leave the slash out: -p {path.rstrip('/')}"
        )


def _refuse_taken(connection: Connection, name: str) -> None:
    """Raise before anything is sent when the name is taken."""
    from periflow_sdk.errors import ConflictError, NotFoundError

    try:
        connection.client.dataset(connection.project.id, name)
    except NotFoundError:
        return
    raise ConflictError(
        f"There is a dataset {name} already.",
        code="dataset_exists",
        hint=f"Choose another name, or `pf dataset delete {name}` first.",
    )


def _send(
    connection: Connection, output: Output, name: str, path: str, plan: Plan
) -> tuple[Snapshot, str]:
    """Send the files; the snapshot, and how it went in words."""
    import shlex
    from pathlib import Path

    from periflow_cli.transfer import Bar
    from periflow_sdk.snapshots.upload import upload_folder

    try:
        with Bar("Uploading", plan.size) as bar:
            snapshot = upload_folder(
                connection.client,
                connection.project.id,
                Path(path),
                keep_name=not path.endswith("/"),
                state_dir=connection.profile.folder / "uploads",
                progress=bar,
                plan=plan,
            )
    except KeyboardInterrupt:
        command = shlex.join(["pf", "dataset", "upload", "-n", name, "-p", path])
        output.note(f"Interrupted. This sends only the rest: {command}")
        raise
    return snapshot, bar.summary()


def _show_plan(output: Output, name: str, plan: Plan, as_json: bool) -> None:
    from periflow_cli.moment import size_text
    from periflow_cli.section import Files

    if as_json:
        files = [{"path": file.path, "size": file.size} for file in plan.files]
        output.json(
            {"name": name, "size": plan.size, "file_count": plan.file_count, "files": files}
        )
        return
    output.note(f"Would upload {_amount(plan.size, plan.file_count)} as dataset {name}:")
    output.sections(Files("Files", [(file.path, size_text(file.size)) for file in plan.files]))


def _show(output: Output, dataset: Dataset, manifest: Manifest | None) -> None:
    import json

    from periflow_cli.section import Fields, Files, Lines

    metadata = json.dumps(dataset.metadata, indent=2, ensure_ascii=False).splitlines()
    output.sections(
        Fields("Overview", _overview(dataset)),
        Files("Files", file_entries(manifest) if manifest else []),
        Lines("Metadata", metadata),
    )


def file_entries(manifest: Manifest) -> list[tuple[str, str | None]]:
    """The paths of a snapshot, each with its size or where it leads."""
    from periflow_cli.moment import size_text
    from periflow_sdk.snapshots.manifest import FileEntry, LinkEntry

    entries: list[tuple[str, str | None]] = []
    for entry in manifest.entries:
        if isinstance(entry, FileEntry):
            entries.append((entry.path, size_text(entry.size)))
        elif isinstance(entry, LinkEntry):
            entries.append((entry.path, f"link to {entry.target}"))
        else:
            entries.append((entry.path, None))
    return entries


def _overview(dataset: Dataset) -> list[tuple[str, str]]:
    return [
        ("Name", dataset.name),
        ("Cloud", dataset.cloud),
        ("Region", dataset.region or "-"),
        ("Storage Name", dataset.storage_name or "-"),
        ("Active", "Y" if dataset.active else "N"),
    ]


def _amount(size: int, files: int) -> str:
    from periflow_cli.moment import size_text

    return f"{size_text(size)} in {files} file{'' if files == 1 else 's'}"
