"""Datasets."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from periflow_sdk.api.models.wire import Body, Name, Wire


class DatasetCreate(Body):
    name: Name
    snapshot_id: str
    metadata: dict[str, Any] = {}


class Dataset(Wire):
    id: str
    name: str
    cloud: str
    region: str | None = None
    storage_name: str | None = None
    active: bool
    metadata: dict[str, Any] = {}
    snapshot_id: str | None = None
    version: int = 1
    prefix: str | None = None
    endpoint_url: str | None = None
    size: int
    file_count: int
    created_by: str
    created_at: datetime


class DatasetLink(Wire):
    """Where the files of a linked dataset lie."""

    cloud: Literal["s3", "azure-blob", "gcs"]
    storage_name: str
    region: str | None = None
    prefix: str | None = None
    endpoint_url: str | None = None


class DatasetFile(Wire):
    path: str
    size: int
    etag: str | None = None


class SignedFile(Wire):
    """A URL under which one file may be read for a while."""

    path: str
    url: str


class SignedFiles(Wire):
    files: list[SignedFile]


class SourceQuery(Body):
    """Files of a linked dataset, by their paths."""

    paths: Annotated[list[str], Field(max_length=1000)]


class DatasetAccess(Wire):
    """What a job's process needs to read a dataset that the job's file names."""

    dataset: Dataset
    snapshot_id: str | None = None
    link: DatasetLink | None = None
    secret: dict[str, str] | None = None
