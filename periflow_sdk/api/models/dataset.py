"""Datasets."""

from __future__ import annotations

from datetime import datetime
from typing import Any

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
    size: int
    file_count: int
    created_by: str
    created_at: datetime
