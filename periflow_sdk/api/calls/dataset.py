"""Datasets; ``project`` is an id."""

from __future__ import annotations

from collections.abc import Sequence

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.transport import Transport, path_segment


class DatasetCalls(Transport):
    """Datasets; ``project`` is an id."""

    def create_dataset(self, project: str, body: m.DatasetCreate) -> m.Dataset:
        return self._post(f"projects/{project}/datasets", m.Dataset, body)

    def datasets(self, project: str) -> list[m.Dataset]:
        return self._list(f"projects/{project}/datasets", m.Dataset)

    def dataset(self, project: str, name: str) -> m.Dataset:
        """By name or id."""
        return self._get(f"projects/{project}/datasets/{path_segment(name)}", m.Dataset)

    def dataset_files(self, project: str, name: str) -> list[m.DatasetFile]:
        """Every file, sorted by path."""
        path = f"projects/{project}/datasets/{path_segment(name)}/files"
        return self._list(path, m.DatasetFile, {"recursive": "true", "limit": 1000})

    def dataset_sources(self, project: str, name: str, paths: Sequence[str]) -> list[m.SignedFile]:
        """Signed URLs of files of a linked dataset; at most 1,000 at once."""
        path = f"projects/{project}/datasets/{path_segment(name)}/sources"
        return self._post(path, m.SignedFiles, m.SourceQuery(paths=list(paths))).files

    def delete_dataset(self, project: str, name: str) -> None:
        self._delete(f"projects/{project}/datasets/{path_segment(name)}")
