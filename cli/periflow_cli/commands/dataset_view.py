"""`pf dataset view`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from periflow_cli.group import Command, Invocation, json_option

if TYPE_CHECKING:
    from periflow_cli.connection import Connection
    from periflow_cli.output import Output
    from periflow_cli.section import Section
    from periflow_sdk.api.models import Dataset, DatasetVersion
    from periflow_sdk.errors import NotFoundError
    from periflow_sdk.snapshots.manifest import Manifest


@click.command("view", cls=Command)
@click.argument("name")
@click.option("--path", default="", metavar="FOLDER", help="Show what lies in this folder.")
@click.option("--version", type=click.IntRange(min=1), metavar="N", help="As it once was.")
@click.option("--all", "whole", is_flag=True, help="Show every file, however many there are.")
@json_option
@click.pass_obj
def view_dataset(
    invocation: Invocation,
    /,
    name: str,
    path: str,
    version: int | None,
    whole: bool,
    as_json: bool,
) -> None:
    """Show a dataset, its files, its metadata, and the versions it had."""
    from periflow_cli.datasets import find_dataset, refuse_version

    output = invocation.output
    connection = invocation.connect()
    dataset = find_dataset(connection, name)
    folder = path.strip("/")
    if dataset.snapshot_id is None:
        refuse_version(dataset, version)
        _view_linked(connection, output, dataset, folder, whole=whole, as_json=as_json)
    else:
        _view_kept(connection, output, dataset, folder, version, whole=whole, as_json=as_json)


def _view_kept(
    connection: Connection,
    output: Output,
    dataset: Dataset,
    folder: str,
    version: int | None,
    *,
    whole: bool,
    as_json: bool,
) -> None:
    from periflow_cli.datasets import amount_of, file_entries
    from periflow_cli.section import Files
    from periflow_cli.tree import collapse
    from periflow_sdk.snapshots.download import read_manifest

    client, project = connection.client, connection.project.id
    versions = client.dataset_versions(project, dataset.id)
    shown = _version(dataset, versions, version)
    manifest = read_manifest(client, project, str(shown.snapshot_id))
    leaves = _leaves(dataset, manifest, folder)
    if as_json:
        start = f"{folder}/" if folder else ""
        files = [
            {"path": file.path, "size": file.size}
            for file in manifest.files
            if file.path.startswith(start)
        ]
        old = [each.model_dump(mode="json") for each in versions]
        output.json({**shown.model_dump(mode="json"), "versions": old, "files": files})
        return
    is_collapsed = False
    if whole or not output.boxes:
        entries = [(each.path, each.note) for each in leaves]
        if not folder:
            entries = file_entries(manifest)
    else:
        entries, is_collapsed = collapse(leaves)
    files_section = Files("Files", entries, f"/{folder}")
    output.sections(*_sections(shown, files_section, versions))
    if is_collapsed:
        output.hint(f"pf dataset view {dataset.name} --path FOLDER shows what is in a folder")
    output.hint(
        f"{amount_of(shown)}; use it in a job with "
        f"data: {{name: {dataset.name}, mount_path: /workspace/data}}"
    )


def _version(dataset: Dataset, versions: list[DatasetVersion], version: int | None) -> Dataset:
    """The dataset as it was."""
    from periflow_cli.datasets import version_of

    if version is None:
        return dataset
    found = version_of(dataset, versions, version)
    names = ("version", "snapshot_id", "size", "file_count", "created_by", "created_at")
    return dataset.model_copy(update={name: getattr(found, name) for name in names})


def _leaves(dataset: Dataset, manifest: Manifest, folder: str) -> list[Any]:
    from periflow_cli.datasets import file_entries
    from periflow_cli.tree import Leaf
    from periflow_sdk.snapshots.manifest import FileEntry

    start = f"{folder}/" if folder else ""
    notes = file_entries(manifest)
    leaves = [
        Leaf(entry.path[len(start) :], entry.size if isinstance(entry, FileEntry) else 0, note)
        for entry, (_, note) in zip(manifest.entries, notes, strict=True)
        if entry.path.startswith(start)
    ]
    if folder and not leaves:
        raise _no_folder(dataset, folder, is_file=any(path == folder for path, _ in notes))
    return leaves


def _no_folder(dataset: Dataset, folder: str, *, is_file: bool) -> NotFoundError:
    from periflow_sdk.errors import NotFoundError

    return NotFoundError(
        f"{folder} in dataset {dataset.name} is a file, and --path names a folder."
        if is_file
        else f"There is no folder {folder} in dataset {dataset.name}.",
        code="folder_not_found",
        hint=f"pf dataset view {dataset.name}",
    )


def _view_linked(
    connection: Connection,
    output: Output,
    dataset: Dataset,
    folder: str,
    *,
    whole: bool,
    as_json: bool,
) -> None:
    from periflow_cli.datasets import amount, count_text
    from periflow_cli.listing import look, look_at_all
    from periflow_cli.section import Files

    if whole:
        listing = look_at_all(connection, dataset, folder)
    else:
        listing = look(connection, dataset, folder, as_tree=output.boxes and not as_json)
    if folder and not listing.files:
        raise _no_folder(dataset, folder, is_file=False)
    if as_json:
        files = [{"path": file.path, "size": file.size} for file in listing.files]
        document = dataset.model_dump(mode="json")
        output.json({**document, "files": files, "is_whole": listing.is_whole})
        return
    output.sections(*_sections(dataset, Files("Files", listing.entries, f"/{folder}"), []))
    if listing.left_out:
        output.note(f"{listing.left_out:,} objects are left out: their names are no paths.")
    if listing.is_collapsed:
        output.hint(f"pf dataset view {dataset.name} --path FOLDER shows what is in a folder")
    if listing.is_whole:
        size = amount(listing.size, len(listing.files))
    else:
        size = f"more than {count_text(len(listing.files))}"
        if not listing.is_collapsed:
            output.note(f"These are the first {len(listing.files):,} files; --all shows them all.")
    output.hint(
        f"{size}; use it in a job with data: {{name: {dataset.name}, mount_path: /workspace/data}}"
    )


def _sections(dataset: Dataset, files: Section, versions: list[DatasetVersion]) -> list[Section]:
    from periflow_cli.datasets import amount, overview
    from periflow_cli.moment import local_time
    from periflow_cli.section import Fields, Lines

    pairs = overview(dataset)
    if dataset.prefix:
        pairs.append(("Prefix", dataset.prefix))
    if dataset.endpoint_url:
        pairs.append(("Endpoint", dataset.endpoint_url))
    if len(versions) > 1:
        pairs.append(("Version", f"{dataset.version} of {len(versions)}"))
    metadata = json.dumps(dataset.metadata, indent=2, ensure_ascii=False).splitlines()
    sections: list[Section] = [
        Fields("Overview", pairs),
        files,
        Lines("Metadata", metadata),
    ]
    if len(versions) > 1:
        old = [
            (
                str(each.version),
                f"{amount(each.size, each.file_count)}, {local_time(each.created_at)}, "
                f"{each.created_by}",
            )
            for each in versions
        ]
        sections.append(Fields("Versions", old))
    return sections
