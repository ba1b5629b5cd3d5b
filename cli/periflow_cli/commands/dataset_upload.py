"""`pf dataset upload`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from periflow_cli.group import Command, Invocation, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from periflow_cli.connection import Connection
    from periflow_cli.output import Output
    from periflow_sdk.api.models import Dataset, Snapshot
    from periflow_sdk.snapshots.scan import Plan

metadata_option = click.option(
    "-f",
    "--metadata-file",
    metavar="FILE",
    help="Metadata: names and values, in YAML or JSON.",
)


@click.command("upload", cls=Command)
@click.option("-n", "--name", required=True, metavar="NAME", help="Name of the dataset.")
@click.option(
    "-p",
    "--path",
    required=True,
    metavar="PATH",
    help="Folder or file. With a slash at the end the folder's contents, else the folder itself.",
)
@metadata_option
@click.option("--new-version", is_flag=True, help="Replace the files of a dataset that exists.")
@click.option(
    "--pack",
    is_flag=True,
    help="Pack many small files into tar shards of about 10 MB: for periflow_sdk.data.stream.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@json_option
@click.pass_obj
def upload_dataset(
    invocation: Invocation,
    /,
    name: str,
    path: str,
    metadata_file: str | None,
    new_version: bool,
    pack: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Upload a dataset. Interrupted and run again, it sends only the rest.

    With --new-version only what changed is sent; jobs keep the version they were submitted with.

    With --pack, files whose paths are equal to the first dot of the name are one sample.
    """
    from pathlib import Path

    from periflow_cli.datasets import amount, read_metadata
    from periflow_cli.source import plan_source
    from periflow_sdk.api.models import DatasetCreate

    output = invocation.output
    metadata = read_metadata(metadata_file) if metadata_file is not None else None
    DatasetCreate(name=name, snapshot_id="")
    _check_source(path)
    plan = plan_source(Path(path), keep_name=not path.endswith("/"))
    if not plan.file_count:
        output.note(f"Warning: {path} has no files.")
    connection = invocation.connect()
    before = _check_name(connection, name, new_version=new_version)
    if dry_run:
        if before and not pack:
            _show_changes(connection, output, before, plan)
        _show_plan(output, name, plan, as_json)
        if pack:
            _show_shards(output, plan)
        return
    words = ["--new-version"] if new_version else []
    words += ["-f", metadata_file] if metadata_file is not None else []
    command = ["pf", "dataset", "upload", "-n", name, "-p", path, *words]
    if pack:
        snapshot, how = _send_packed(connection, output, plan, [*command, "--pack"])
    else:
        source = Path(path)
        snapshot, how = _send(connection, output, source, plan, command)
    dataset = _name(connection, name, snapshot, metadata, new_version=new_version)
    size = amount(snapshot.size, snapshot.file_count)
    if as_json:
        output.json(dataset)
    elif before and before.version == dataset.version:
        output.line(f"No file has changed: dataset {name} stays version {before.version}, {size}.")
    else:
        version = f" version {dataset.version}" if new_version else ""
        output.line(f"Uploaded dataset {dataset.name}{version}: {size} {how}.")
    output.hint(f"pf dataset view {dataset.name}")


def _name(
    connection: Connection,
    name: str,
    snapshot: Snapshot,
    metadata: dict[str, object] | None,
    *,
    new_version: bool,
) -> Dataset:
    from periflow_sdk.api.models import DatasetCreate, DatasetUpdate, DatasetVersionCreate

    client, project = connection.client, connection.project.id
    if not new_version:
        body = DatasetCreate(name=name, snapshot_id=snapshot.id, metadata=metadata or {})
        return client.create_dataset(project, body)
    dataset = client.add_dataset_version(
        project, name, DatasetVersionCreate(snapshot_id=snapshot.id)
    )
    if metadata is not None:
        dataset = client.update_dataset(project, name, DatasetUpdate(metadata=metadata))
    return dataset


def _check_source(path: str) -> None:
    from periflow_sdk.errors import UsageError

    if not path:
        raise UsageError("-p is empty.", hint="The folder that you are in is -p ./")
    if not os.path.lexists(path.rstrip("/") or "/"):
        raise UsageError(f"There is no folder or file {path}.")
    if path.endswith("/") and not os.path.isdir(path):  # noqa: PTH112 - the slash counts
        raise UsageError(
            f"{path} is not a folder.", hint=f"Leave the slash out: -p {path.rstrip('/')}"
        )


def _check_name(connection: Connection, name: str, *, new_version: bool) -> Dataset | None:
    """The dataset that gets another version, None for a new one.

    Raises:
        NotFoundError: there is none that could get a version.
        ConflictError: the name is taken, or that of a linked one.
    """
    from periflow_cli.datasets import find_dataset, refuse_taken_name
    from periflow_sdk.errors import ConflictError

    if new_version:
        dataset = find_dataset(connection, name)
        if dataset.snapshot_id is None:
            raise ConflictError(
                f"Dataset {name} is linked to {dataset.storage_name}, and has no versions.",
                code="dataset_linked",
                hint="Put the files into the bucket, or choose another name.",
            )
        return dataset
    refuse_taken_name(connection, name)
    return None


def _send(
    connection: Connection, output: Output, source: Path, plan: Plan, command: list[str]
) -> tuple[Snapshot, str]:
    """Send the files; the snapshot, and how it went in words."""
    import shlex

    from periflow_cli.transfer import Bar
    from periflow_sdk.snapshots.upload import upload_folder

    try:
        with Bar("Uploading", plan.size) as bar:
            snapshot = upload_folder(
                connection.client,
                connection.project.id,
                source,
                keep_name=False,
                state_dir=connection.profile.folder / "uploads",
                progress=bar,
                plan=plan,
            )
    except KeyboardInterrupt:
        output.note(f"Interrupted. This sends only the rest: {shlex.join(command)}")
        raise
    return snapshot, bar.summary()


def _send_packed(
    connection: Connection, output: Output, plan: Plan, command: list[str]
) -> tuple[Snapshot, str]:
    """Pack the files, and send the shards."""
    from periflow_cli.pack import packed
    from periflow_sdk.snapshots.scan import plan_folder

    if plan.links:
        output.note(f"Warning: {len(plan.links)} links are left out of the shards.")
    with packed(plan) as folder:
        return _send(connection, output, folder, plan_folder(folder), command)


def _show_shards(output: Output, plan: Plan) -> None:
    from periflow_sdk.data.packing import plan_shards

    shards = plan_shards(plan.files)
    samples = sum(len(shard.samples) for shard in shards)
    output.note(f"They would be packed into {len(shards)} shards with {samples} samples.")


def _show_changes(connection: Connection, output: Output, before: Dataset, plan: Plan) -> None:
    """What a new version would change, as far as it is seen without reading the files."""
    from periflow_cli.datasets import count_text
    from periflow_sdk.snapshots.download import read_manifest

    manifest = read_manifest(connection.client, connection.project.id, str(before.snapshot_id))
    there = {file.path: file.size for file in manifest.files}
    here = {file.path: file.size for file in plan.files}
    both = here.keys() & there.keys()
    resized = sum(here[path] != there[path] for path in both)
    output.note(
        f"Beside version {before.version}: {count_text(len(here) - len(both))} new, "
        f"{len(there) - len(both):,} gone, {resized:,} of another size; "
        "files of the same size are compared when they are sent."
    )


def _show_plan(output: Output, name: str, plan: Plan, as_json: bool) -> None:
    from periflow_cli.datasets import amount
    from periflow_cli.moment import size_text
    from periflow_cli.section import Files

    if as_json:
        files = [{"path": file.path, "size": file.size} for file in plan.files]
        output.json(
            {"name": name, "size": plan.size, "file_count": plan.file_count, "files": files}
        )
        return
    output.note(f"Would upload {amount(plan.size, plan.file_count)} as dataset {name}:")
    output.sections(Files("Files", [(file.path, size_text(file.size)) for file in plan.files]))
