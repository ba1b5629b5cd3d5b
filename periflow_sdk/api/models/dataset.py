"""Datasets: files kept here, or a link to a bucket that others keep."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from periflow_sdk.api.models.credential import Revealed
from periflow_sdk.api.models.wire import Body, Hash, Name, Wire

Cloud = Literal["s3", "azure-blob", "gcs"]
"""Where linked datasets are; those kept here have the cloud ``fai``."""
_Bucket = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,221}$")]
_Region = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{2,32}$")]
_Prefix = Annotated[str, StringConstraints(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
_Url = Annotated[
    str, StringConstraints(max_length=1024, pattern=r"^https?://[^\s/?#@]+(/[^?#\s]*)?$")
]
METADATA_BYTES = 100_000
"""So long is the metadata of a dataset, as JSON, at the most: every list of datasets has it."""


_METADATA_DEPTH = 100


def _plain(metadata: dict[str, Any]) -> dict[str, Any]:
    """Metadata that every list can show: an answer that cannot be written shows no dataset."""
    level: list[Any] = [metadata]
    for _ in range(_METADATA_DEPTH):
        level = [part for value in level for part in _parts(value)]
    if level:
        raise ValueError(f"metadata has at most {_METADATA_DEPTH} levels")
    try:
        json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        raise ValueError("metadata has a number or a text that is none in JSON") from None
    if len(json.dumps(metadata)) > METADATA_BYTES:
        raise ValueError(f"metadata has at most {METADATA_BYTES:,} bytes as JSON")
    return metadata


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


Metadata = Annotated[dict[str, Any], AfterValidator(_plain)]


class DatasetLink(Wire):
    """A bucket, or what is below ``prefix`` in it, and the credential (id or name) that opens it.

    ``storage_name`` is the name of the bucket or container. ``endpoint_url`` is there where the
    service is not the cloud's own.
    """

    cloud: Cloud
    storage_name: _Bucket
    region: _Region | None = None
    prefix: _Prefix = ""
    endpoint_url: _Url | None = None
    credential_id: Annotated[str, StringConstraints(min_length=1, max_length=64)]


class DatasetLinkCreate(DatasetLink):
    model_config = ConfigDict(extra="forbid", strict=True)


class DatasetCreate(Body):
    """A dataset of a snapshot, or one that is linked."""

    name: Name
    snapshot_id: str | None = None
    link: DatasetLinkCreate | None = None
    metadata: Metadata = {}

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.snapshot_id is None) == (self.link is None):
            raise ValueError("a dataset has either a snapshot_id or a link")
        return self


class DatasetName(Body):
    """A name that is thought of."""

    name: Name


class DatasetUpdate(Body):
    """Another name, other metadata, or of a linked one another credential (id or name)."""

    name: Name | None = None
    metadata: Metadata | None = None
    credential_id: Annotated[str, StringConstraints(min_length=1, max_length=64)] | None = None


class DatasetVersionCreate(Body):
    snapshot_id: str


class DatasetVersion(Wire):
    """What a dataset was once uploaded as; counted from 1."""

    version: int
    snapshot_id: str
    size: int
    file_count: int
    created_by: str
    created_at: datetime


class Dataset(Wire):
    """A dataset. ``version``, ``size`` in bytes and ``file_count`` are those of the newest version.

    A linked one has version 1 always, no snapshot, and nobody knows its size and number of files.
    ``used_by`` has the numbers of the project's jobs that have not ended and read it, where one
    dataset is asked for.
    """

    id: str
    name: str
    cloud: str
    region: str | None = None
    storage_name: str | None = None
    prefix: str = ""
    endpoint_url: str | None = None
    credential_id: str | None = None
    active: bool
    metadata: dict[str, Any] = {}
    snapshot_id: str | None = None
    version: int = 1
    size: int | None = None
    file_count: int | None = None
    created_by: str
    created_at: datetime
    used_by: list[int] = []


class DatasetFile(Wire):
    """A file. ``path`` is relative to the dataset; ``etag`` changes when the content does."""

    kind: Literal["file"] = "file"
    path: str
    size: int
    etag: str | None = None


class DatasetFolder(Wire):
    kind: Literal["folder"] = "folder"
    path: str


DatasetEntry = Annotated[DatasetFile | DatasetFolder, Field(discriminator="kind")]


class DatasetPage(Wire):
    """What lies in a dataset or a folder of it, by path; ``next_cursor`` asks for what follows.

    ``left_out`` counts objects of the bucket whose names could be no paths.
    """

    items: list[DatasetEntry] = []
    left_out: int = 0
    next_cursor: str | None = None


class DatasetSourcesRequest(Body):
    paths: Annotated[list[str], Field(min_length=1, max_length=1000)]


class DatasetSource(Wire):
    """Where a file of a linked dataset can be read with GET until ``expires_at``."""

    path: str
    url: str
    expires_at: datetime


class DatasetSources(Wire):
    """In the order of the paths that were asked for."""

    sources: list[DatasetSource] = []


class DatasetAccess(Wire):
    """What a job needs to read a dataset that its file names.

    ``snapshot_id`` is that of the version which the job was submitted with. Of a linked dataset
    there are ``link``, whose ``endpoint_url`` is where the server itself finds the service, and
    ``secret``: the fields of its credential.
    """

    dataset: Dataset
    snapshot_id: Hash | None = None
    link: DatasetLink | None = None
    secret: dict[str, Revealed] | None = None
