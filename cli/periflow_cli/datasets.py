"""Datasets: found by name or id, described in words, and the metadata that people give them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from periflow_cli.connection import Connection
from periflow_cli.moment import size_text
from periflow_cli.names import known
from periflow_cli.terminal import one_line
from periflow_sdk.api.models import Dataset, DatasetVersion
from periflow_sdk.errors import ConflictError, NotFoundError, UsageError
from periflow_sdk.snapshots.manifest import FileEntry, LinkEntry, Manifest


def find_dataset(connection: Connection, name: str) -> Dataset:
    """The dataset of a name or id.

    Raises:
        NotFoundError: with the nearest names.
    """
    client, project = connection.client, connection.project
    with known(
        "dataset",
        name,
        lambda: [each.name for each in client.datasets(project.id)],
        "pf dataset list",
        where=f"in project {project.name}",
    ):
        return client.dataset(project.id, name)


def refuse_taken_name(connection: Connection, name: str) -> None:
    """Refuse a name for a new dataset that one of the organization has.

    Raises:
        ConflictError: ``dataset_exists``.
    """
    try:
        found = connection.client.dataset(connection.project.id, name)
    except NotFoundError:
        connection.client.check_dataset_name(connection.project.id, name)
        return
    is_kept = found.snapshot_id is not None
    raise ConflictError(
        f"There is a dataset {name} already"
        f"{'' if is_kept else f', linked to {found.cloud} {found.storage_name}'}.",
        code="dataset_exists",
        hint="Choose another name, or replace its files: pf dataset upload --new-version"
        if is_kept
        else f"Choose another name, or remove the link first: pf dataset delete {name}",
    )


def version_of(dataset: Dataset, versions: Sequence[DatasetVersion], number: int) -> DatasetVersion:
    """The version of a number.

    Raises:
        NotFoundError: ``dataset_version_not_found``.
    """
    for each in versions:
        if each.version == number:
            return each
    raise NotFoundError(
        f"Dataset {dataset.name} has no version {number}; the newest is {dataset.version}.",
        code="dataset_version_not_found",
        hint=f"pf dataset view {dataset.name}",
    )


def refuse_version(dataset: Dataset, version: int | None) -> None:
    """Refuse a version of a linked dataset, which has none.

    Raises:
        UsageError: one was asked for.
    """
    if version is not None:
        raise UsageError(f"Dataset {dataset.name} is linked, and has no versions.")


def snapshot_of(connection: Connection, dataset: Dataset, version: int | None) -> str:
    """The snapshot of a version, or of the newest.

    Raises:
        NotFoundError: ``dataset_version_not_found``.
    """
    if version is None:
        return str(dataset.snapshot_id)
    versions = connection.client.dataset_versions(connection.project.id, dataset.id)
    return version_of(dataset, versions, version).snapshot_id


def overview(dataset: Dataset) -> list[tuple[str, str]]:
    """The five fields that every dataset shows."""
    return [
        ("Name", dataset.name),
        ("Cloud", dataset.cloud),
        ("Region", dataset.region or "-"),
        ("Storage Name", dataset.storage_name or "-"),
        ("Active", "Y" if dataset.active else "N"),
    ]


def amount(size: int, files: int) -> str:
    """``187.7 kB in 3 files``."""
    return f"{size_text(size)} in {count_text(files)}"


def amount_of(dataset: Dataset) -> str:
    """How much it is, or where it is linked to."""
    if dataset.size is None or dataset.file_count is None:
        return f"linked to {dataset.cloud} {dataset.storage_name}"
    return amount(dataset.size, dataset.file_count)


def count_text(files: int) -> str:
    """``1 file``, ``50,000 files``."""
    return f"{files:,} file{'' if files == 1 else 's'}"


def file_entries(manifest: Manifest) -> list[tuple[str, str | None]]:
    """The paths of a snapshot, each with its size or where it leads."""
    entries: list[tuple[str, str | None]] = []
    for entry in manifest.entries:
        if isinstance(entry, FileEntry):
            entries.append((entry.path, size_text(entry.size)))
        elif isinstance(entry, LinkEntry):
            entries.append((entry.path, f"link to {one_line(entry.target)}"))
        else:
            entries.append((entry.path, None))
    return entries


def read_metadata(path: str) -> dict[str, Any]:
    """The metadata in a YAML or JSON file.

    Raises:
        UsageError: it cannot be read, or is no mapping of names to values.
    """
    import json

    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    from periflow_sdk.api.models.dataset import METADATA_BYTES

    hint = "It has names and values, as `classes: 100`, in YAML or JSON."
    try:
        document = YAML(typ="safe").load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        reason = (error.problem or error.context or "").partition("\n")[0]
        raise UsageError(f"{path}{where} is neither YAML nor JSON: {reason}.", hint=hint) from error
    except (YAMLError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UsageError(f"{path} is neither YAML nor JSON: {reason}.", hint=hint) from error
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(isinstance(name, str) for name in document):
        raise UsageError(f"{path} has no names with values.", hint=hint)
    try:
        # Dates become texts: JSON has none.
        metadata: dict[str, Any] = json.loads(json.dumps(document, default=str, allow_nan=False))
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path} has what JSON cannot say: {error}.", hint=hint) from error
    if len(json.dumps(metadata)) > METADATA_BYTES:
        raise UsageError(
            f"The metadata in {path} is larger than {size_text(METADATA_BYTES)}.",
            hint="Put it into a file of the dataset.",
        )
    return metadata
