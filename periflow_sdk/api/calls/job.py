"""Jobs, their logs and metrics; ``project`` is an id."""

from __future__ import annotations

from typing import Any

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.transport import Transport, path_segment


class JobCalls(Transport):
    """Jobs, their logs and metrics; ``project`` is an id."""

    def vm_types(self, project: str) -> list[m.VmType]:
        return self._list(f"projects/{project}/vms", m.VmType)

    def create_job(self, project: str, body: m.JobCreate) -> m.Job:
        return self._post(f"projects/{project}/jobs", m.Job, body)

    def attach_job(self, project: str, body: m.AttachedJobCreate) -> m.AttachedJob:
        """The job of an attached run: a new one, or the one this run has already."""
        return self._post(f"projects/{project}/jobs/attached", m.AttachedJob, body)

    def sync_job(self, project: str, number: int | str, body: m.SyncRequest) -> m.AttachedJob:
        """A token for what the agent of a node left unsent when its job ended."""
        path = f"projects/{project}/jobs/{path_segment(number)}/sync"
        return self._post(path, m.AttachedJob, body)

    def jobs(
        self, project: str, *, limit: int | None = None, where: m.JobFilter | None = None
    ) -> list[m.Job]:
        """Newest first; all, or those that fit."""
        params = where.model_dump(mode="json", exclude_defaults=True) if where else None
        return self._list(f"projects/{project}/jobs", m.Job, params=params, limit=limit)

    def job(self, project: str, number: int | str) -> m.JobDetail:
        """By number, name, id, unique id prefix or ``latest``."""
        return self._get(f"projects/{project}/jobs/{path_segment(number)}", m.JobDetail)

    def stop_job(self, project: str, number: int | str, *, now: bool = False) -> m.Job:
        """End a job; it saves first, unless ``now`` or when it is told a second time."""
        path = f"projects/{project}/jobs/{path_segment(number)}/stop{'?now=true' if now else ''}"
        return self._post(path, m.Job, None)

    def delete_job(self, project: str, number: int | str, *, dry_run: bool = False) -> None:
        """Delete a job that has ended; with ``dry_run`` only see whether that may be done."""
        path = f"projects/{project}/jobs/{path_segment(number)}"
        self._delete(f"{path}{'?dry_run=true' if dry_run else ''}")

    def preempt_job(
        self, project: str, number: int | str, *, grace_seconds: float | None = None
    ) -> m.Job:
        """Tell a running job that its node will be taken: it saves, ends and starts again."""
        body = m.PreemptRequest(grace_seconds=grace_seconds)
        return self._post(f"projects/{project}/jobs/{path_segment(number)}/preempt", m.Job, body)

    def job_log(
        self,
        project: str,
        number: int | str,
        *,
        cursor: str | None = None,
        limit: int = 1000,
        tail: bool = False,
        wait_seconds: float = 0,
    ) -> m.LogPage:
        """A page of the log after ``cursor``; with ``tail``, the last ``limit`` lines.

        With ``wait_seconds`` the server holds the answer until there is a line or the job ends.
        """
        params: dict[str, Any] = {"limit": limit, "tail": tail, "wait": wait_seconds}
        if cursor:
            params["cursor"] = cursor
        return self._get(
            f"projects/{project}/jobs/{path_segment(number)}/log", m.LogPage, params=params
        )

    def metric_names(
        self, project: str, number: int | str, *, system: bool = False
    ) -> list[m.MetricName]:
        """The metrics of a job; with ``system``, what its agents measured (rank -1 - node), too."""
        path = f"projects/{project}/jobs/{path_segment(number)}/metrics"
        return self._list(path, m.MetricName, params={"system": True} if system else None)

    def metric_series(
        self,
        project: str,
        number: int | str,
        name: str,
        *,
        rank: int | None = 0,
        max_points: int | None = None,
        last: int | None = None,
    ) -> m.MetricSeries:
        """One metric of one rank.

        Args:
            rank: Of which rank; None for the mean over all ranks at each step.
            max_points: Downsample to at most about this many (min and max of each pixel column).
            last: Only the last so many points.
        """
        params: dict[str, Any] = {"name": name}
        params |= {"mean": True} if rank is None else {"rank": rank}
        if max_points is not None:
            params["max_points"] = max_points
        if last is not None:
            params["last"] = last
        path = f"projects/{project}/jobs/{path_segment(number)}/metrics/series"
        return self._get(path, m.MetricSeries, params=params)
