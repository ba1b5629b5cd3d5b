"""Datasets; ``project`` is an id."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.transport import Transport, path_segment


class DatasetCalls(Transport):
    """Datasets; ``project`` is an id, ``name`` the name or id of a dataset."""

    def create_dataset(self, project: str, body: m.DatasetCreate) -> m.Dataset:
        return self._post(f"projects/{project}/datasets", m.Dataset, body)

    def check_dataset_name(self, project: str, name: str) -> None:
        """Refuse a name that a dataset of the organization has; nothing is stored."""
        self._request("POST", f"projects/{project}/datasets/check-name", json={"name": name})

    def check_link(self, project: str, link: m.DatasetLinkCreate) -> m.DatasetPage:
        """The first files behind a link; nothing is stored."""
        return self._post(f"projects/{project}/datasets/check-link", m.DatasetPage, link)

    def datasets(self, project: str) -> list[m.Dataset]:
        return self._list(f"projects/{project}/datasets", m.Dataset)

    def dataset(self, project: str, name: str) -> m.Dataset:
        """By name or id."""
        return self._get(_path(project, name), m.Dataset)

    def update_dataset(self, project: str, name: str, body: m.DatasetUpdate) -> m.Dataset:
        return self._patch(_path(project, name), m.Dataset, body)

    def delete_dataset(self, project: str, name: str, *, force: bool = False) -> None:
        """Delete a dataset; with ``force`` a linked one although jobs read it."""
        query = "?force=true" if force else ""
        self._delete(f"{_path(project, name)}{query}")

    def add_dataset_version(
        self, project: str, name: str, body: m.DatasetVersionCreate
    ) -> m.Dataset:
        """Make a snapshot the newest version of a dataset."""
        return self._post(f"{_path(project, name)}/versions", m.Dataset, body)

    def dataset_versions(self, project: str, name: str) -> list[m.DatasetVersion]:
        """The versions, the newest first; none of a linked dataset."""
        return self._list(f"{_path(project, name)}/versions", m.DatasetVersion)

    def dataset_page(
        self,
        project: str,
        name: str,
        path: str = "",
        *,
        recursive: bool = False,
        cursor: str | None = None,
        limit: int = 1000,
        version: int | None = None,
    ) -> m.DatasetPage:
        """A page of what lies in a folder of a dataset, or with ``recursive`` anywhere below it.

        Args:
            limit: At most 10,000. A page may have less, and even nothing: ``next_cursor`` counts.
            version: Of one that is kept here; the newest if None.
        """
        params = {
            "path": path,
            "recursive": recursive,
            "limit": limit,
            "cursor": cursor,
            "version": version,
        }
        given = {key: value for key, value in params.items() if value is not None}
        return self._get(f"{_path(project, name)}/files", m.DatasetPage, given)

    def dataset_files(
        self, project: str, name: str, path: str = "", *, page: int = 10_000
    ) -> Iterator[m.DatasetFile]:
        """All files of a dataset, or of a folder of it, by path, asked for page by page."""
        cursor = None
        while True:
            found = self.dataset_page(
                project, name, path, recursive=True, cursor=cursor, limit=page
            )
            yield from (each for each in found.items if isinstance(each, m.DatasetFile))
            if (cursor := found.next_cursor) is None:
                return

    def dataset_sources(
        self, project: str, name: str, paths: Sequence[str]
    ) -> list[m.DatasetSource]:
        """Signed URLs of at most 1,000 files of a linked dataset, in the order of the paths."""
        body = m.DatasetSourcesRequest(paths=list(paths))
        response = self._request(
            "POST", f"{_path(project, name)}/sources", json=body.model_dump(mode="json")
        )
        return m.DatasetSources.model_validate_json(response.content).sources


def _path(project: str, name: str) -> str:
    return f"projects/{project}/datasets/{path_segment(name)}"
