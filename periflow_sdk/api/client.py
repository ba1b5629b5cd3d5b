"""The control plane's HTTP API as a typed client: one method an endpoint."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import BaseModel, TypeAdapter

from periflow_sdk.api import models as m
from periflow_sdk.api.proof import is_proof, new_nonce, read_key
from periflow_sdk.errors import ServerUnreachableError, error_from_problem

T = TypeVar("T", bound=BaseModel)
_RETRIED_STATUSES = frozenset({429, 502, 503, 504})


class ApiClient:
    """Talks to one control plane.

    Args:
        url: Address of the control plane, without ``/api/v1``.
        token: A bearer token, or a function that gives the current one.
        timeout_seconds: Bound on connecting and on each read.
        connect_seconds: Bound on connecting alone.
        attempts: How often a request that could not be delivered is tried in all.
        on_unauthorized: Called once on a 401; True means that a fresh token is there.
        key_file: The key of an embedded server. No token is sent before whoever answers has
            proven that he holds it, at the start and whenever the connection was lost: another
            user of the machine may sit on the port meanwhile.

    Raises (every method):
        ServerUnreachableError: after the last attempt.
        ApiError: what the server raised, as the same class.
    """

    def __init__(
        self,
        url: str,
        token: str | Callable[[], str | None] | None = None,
        *,
        timeout_seconds: float = 30.0,
        connect_seconds: float = 5.0,
        attempts: int = 4,
        on_unauthorized: Callable[[], bool] | None = None,
        key_file: Path | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        self._token = token if callable(token) else lambda: token
        self._attempts = max(1, attempts)
        self._on_unauthorized = on_unauthorized
        self._key_file = key_file
        self._is_proven = key_file is None
        self._http = httpx.Client(
            base_url=f"{self.url}/api/v1/",
            timeout=httpx.Timeout(timeout_seconds, connect=min(connect_seconds, timeout_seconds)),
            trust_env=not self.url.startswith(("http://127.0.0.1", "http://localhost")),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> ApiClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # accounts

    def server_info(self, nonce: str | None = None) -> m.ServerInfo:
        return self._get("server", m.ServerInfo, params={"nonce": nonce} if nonce else None)

    def sign_up(self, body: m.SignupRequest) -> m.PendingSignup:
        return self._post("signups", m.PendingSignup, body)

    def confirm_signup(self, body: m.SignupConfirmation) -> m.Session:
        return self._post("signups/confirm", m.Session, body)

    def log_in(self, body: m.LoginRequest) -> m.Session:
        return self._post("sessions", m.Session, body)

    def refresh(self, refresh_token: str) -> m.Session:
        return self._post(
            "sessions/refresh", m.Session, m.RefreshRequest(refresh_token=refresh_token)
        )

    def log_out(self) -> None:
        self._request("DELETE", "sessions/current")

    def me(self) -> m.User:
        return self._get("users/me", m.User)

    # organizations and projects; `organization` and `project` are ids

    def create_organization(self, name: str) -> m.Organization:
        return self._post("organizations", m.Organization, m.OrganizationCreate(name=name))

    def organizations(self) -> list[m.Organization]:
        return self._list("organizations", m.Organization)

    def create_project(self, organization: str, name: str) -> m.Project:
        path = f"organizations/{organization}/projects"
        return self._post(path, m.Project, m.ProjectCreate(name=name))

    def projects(self, organization: str) -> list[m.Project]:
        return self._list(f"organizations/{organization}/projects", m.Project)

    # snapshots

    def missing_chunks(self, project: str, chunks: Sequence[m.ChunkRef]) -> list[m.ChunkLocation]:
        """The chunks the store lacks, each with where to PUT it; renews a lease on all named."""
        body = m.ChunkQuery(chunks=list(chunks))
        return self._post(f"projects/{project}/chunks/missing", m.ChunkLocations, body).chunks

    def chunk_sources(self, project: str, chunks: Sequence[m.ChunkRef]) -> list[m.ChunkLocation]:
        """Where to GET each chunk."""
        body = m.ChunkQuery(chunks=list(chunks))
        return self._post(f"projects/{project}/chunks/sources", m.ChunkLocations, body).chunks

    def commit_snapshot(self, project: str, manifest: bytes) -> m.Snapshot:
        """Publish a manifest; every chunk it names must be in the store. Idempotent."""
        response = self._request(
            "POST",
            f"projects/{project}/snapshots",
            content=manifest,
            headers={"Content-Type": "application/json"},
        )
        return m.Snapshot.model_validate_json(response.content)

    def manifest(self, project: str, snapshot: str) -> bytes:
        return self._request("GET", f"projects/{project}/snapshots/{snapshot}/manifest").content

    # datasets

    def create_dataset(self, project: str, body: m.DatasetCreate) -> m.Dataset:
        return self._post(f"projects/{project}/datasets", m.Dataset, body)

    def datasets(self, project: str) -> list[m.Dataset]:
        return self._list(f"projects/{project}/datasets", m.Dataset)

    def dataset(self, project: str, name: str) -> m.Dataset:
        """By name or id."""
        return self._get(f"projects/{project}/datasets/{_segment(name)}", m.Dataset)

    def delete_dataset(self, project: str, name: str) -> None:
        self._request("DELETE", f"projects/{project}/datasets/{_segment(name)}")

    # jobs

    def vm_types(self, project: str) -> list[m.VmType]:
        return self._list(f"projects/{project}/vms", m.VmType)

    def create_job(self, project: str, body: m.JobCreate) -> m.Job:
        return self._post(f"projects/{project}/jobs", m.Job, body)

    def attach_job(self, project: str, body: m.AttachedJobCreate) -> m.AttachedJob:
        """The job of an attached run: a new one, or the one this run has already."""
        return self._post(f"projects/{project}/jobs/attached", m.AttachedJob, body)

    def sync_job(self, project: str, number: int | str, body: m.SyncRequest) -> m.AttachedJob:
        """A token for what the agent of a node left unsent when its job ended."""
        path = f"projects/{project}/jobs/{_segment(number)}/sync"
        return self._post(path, m.AttachedJob, body)

    def jobs(self, project: str, *, limit: int | None = None) -> list[m.Job]:
        """Newest first."""
        return self._list(f"projects/{project}/jobs", m.Job, limit=limit)

    def job(self, project: str, number: int | str) -> m.JobDetail:
        """By number, name, id, unique id prefix or ``latest``."""
        return self._get(f"projects/{project}/jobs/{_segment(number)}", m.JobDetail)

    def stop_job(self, project: str, number: int | str, *, now: bool = False) -> m.Job:
        """End a job; it saves first, unless ``now`` or when it is told a second time."""
        path = f"projects/{project}/jobs/{_segment(number)}/stop{'?now=true' if now else ''}"
        return self._post(path, m.Job, None)

    def preempt_job(
        self, project: str, number: int | str, *, grace_seconds: float | None = None
    ) -> m.Job:
        """Tell a running job that its node will be taken: it saves, ends and starts again."""
        body = m.PreemptRequest(grace_seconds=grace_seconds)
        return self._post(f"projects/{project}/jobs/{_segment(number)}/preempt", m.Job, body)

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
            f"projects/{project}/jobs/{_segment(number)}/log", m.LogPage, params=params
        )

    def metric_names(
        self, project: str, number: int | str, *, system: bool = False
    ) -> list[m.MetricName]:
        """The metrics of a job; with ``system``, what its agents measured (rank -1 - node), too."""
        path = f"projects/{project}/jobs/{_segment(number)}/metrics"
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
        path = f"projects/{project}/jobs/{_segment(number)}/metrics/series"
        return self._get(path, m.MetricSeries, params=params)

    # checkpoints

    def checkpoints(self, project: str, *, job: int | str | None = None) -> list[m.Checkpoint]:
        """Newest first; of one job (number, name or ``latest``) or of the project."""
        params = {"job": job} if job is not None else None
        return self._list(f"projects/{project}/checkpoints", m.Checkpoint, params=params)

    def checkpoint(self, project: str, checkpoint: str) -> m.Checkpoint:
        """By id, unique id prefix or ``latest``."""
        return self._get(f"projects/{project}/checkpoints/{_segment(checkpoint)}", m.Checkpoint)

    # the node agent, with its job token

    def assignment(self) -> m.Assignment:
        return self._get("agent/assignment", m.Assignment)

    def register_agent(self, body: m.AgentRegister) -> m.Rendezvous:
        return self._post("agent/register", m.Rendezvous, body)

    def heartbeat(self, body: m.AgentHeartbeat) -> m.AgentOrders:
        return self._post("agent/heartbeat", m.AgentOrders, body)

    def report_event(self, body: m.AgentEvent) -> None:
        self._request("POST", "agent/events", json=body.model_dump(mode="json"))

    def report_system(self, body: m.NodeSystem) -> None:
        self._request("POST", "agent/system", json=body.model_dump(mode="json"))

    def ship_journal(self, rank: int, segment: str, offset: int, lines: bytes) -> int:
        """Send whole lines of a segment that start at ``offset``; the next offset wanted.

        Raises:
            ConflictError: the server wants another offset (``data["offset"]``).
        """
        return self._ship("agent/journal", {"rank": rank, "segment": segment}, offset, lines)

    def ship_log(self, offset: int, data: bytes) -> int:
        """Send raw output that starts at ``offset``; the next offset wanted."""
        return self._ship("agent/log", {}, offset, data)

    def start_checkpoint(self, body: m.CheckpointStart) -> m.Checkpoint:
        return self._post("agent/checkpoints", m.Checkpoint, body)

    def commit_checkpoint(self, upload_id: str, body: m.CheckpointCommit) -> m.Checkpoint:
        return self._post(f"agent/checkpoints/{upload_id}/commit", m.Checkpoint, body)

    def finish_attempt(self, body: m.AgentFinish) -> None:
        self._request("POST", "agent/finish", json=body.model_dump(mode="json"))

    def _ship(self, path: str, params: dict[str, Any], offset: int, data: bytes) -> int:
        response = self._request(
            "POST",
            path,
            params={**params, "offset": offset},
            content=data,
            headers={"Content-Type": "application/octet-stream"},
        )
        return m.Accepted.model_validate_json(response.content).offset

    def _get(self, path: str, model: type[T], params: Mapping[str, Any] | None = None) -> T:
        return model.model_validate_json(self._request("GET", path, params=params).content)

    def _post(self, path: str, model: type[T], body: BaseModel | None) -> T:
        payload = body.model_dump(mode="json") if body is not None else None
        # One key for all tries of this call: a repeated delivery creates nothing twice.
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        response = self._request("POST", path, json=payload, headers=headers)
        return model.model_validate_json(response.content)

    def _list(
        self,
        path: str,
        model: type[T],
        params: Mapping[str, Any] | None = None,
        limit: int | None = None,
    ) -> list[T]:
        """All pages (``{"items": [...], "next_cursor": ...}``), or the first ``limit`` items."""
        items: list[T] = []
        query = dict(params or {})
        adapter = TypeAdapter(list[model])  # type: ignore[valid-type]
        while True:
            if limit is not None:
                query["limit"] = min(limit - len(items), 500)
            page = self._request("GET", path, params=query).json()
            items.extend(adapter.validate_python(page["items"]))
            cursor = page.get("next_cursor")
            if not cursor or (limit is not None and len(items) >= limit):
                return items
            query["cursor"] = cursor

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        refreshed = False
        attempt = 0
        while True:
            attempt += 1
            try:
                response = self._send(method, path, options)
            except httpx.TransportError as error:
                self._is_proven = self._key_file is None
                if attempt >= self._attempts:
                    raise self._unreachable(error) from error
                time.sleep(min(0.2 * 2**attempt, 5.0))
                continue
            if response.status_code in _RETRIED_STATUSES and attempt < self._attempts:
                time.sleep(min(0.2 * 2**attempt, 5.0))
                continue
            if response.status_code == 401 and self._on_unauthorized and not refreshed:
                refreshed = True
                if self._on_unauthorized():
                    continue
            if response.is_success:
                return response
            raise error_from_problem(response.status_code, _problem(response))

    def _send(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        headers = dict(options.get("headers") or {})
        if not self._is_proven:
            self._ask_for_proof()
        if token := self._token():
            headers["Authorization"] = f"Bearer {token}"
        return self._http.request(method, path, **{**options, "headers": headers})

    def _ask_for_proof(self) -> None:
        assert self._key_file is not None
        nonce = new_nonce()
        response = self._http.request("GET", "server", params={"nonce": nonce})
        key, port = read_key(self._key_file), urlsplit(self.url).port
        if not is_proof(_document(response).get("proof"), key, nonce, port):
            raise ServerUnreachableError(
                f"What answers at {self.url} is not this machine's PeriFlow server.",
                data={"url": self.url},
            )
        self._is_proven = True

    def _unreachable(self, error: Exception) -> ServerUnreachableError:
        return ServerUnreachableError(
            f"No answer from {self.url} after {self._attempts} attempts: {error or 'no reason'}",
            hint="Check PERIFLOW_URL and your network, or run `pf server status`.",
            data={"url": self.url},
        )


def _problem(response: httpx.Response) -> dict[str, Any]:
    title = f"{response.request.url} answered {response.status_code}"
    return _document(response) or {"title": title}


def _document(response: httpx.Response) -> dict[str, Any]:
    """The JSON object of an answer; empty if it has none."""
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _segment(reference: int | str) -> str:
    """A name as one part of a path, whatever characters it has."""
    return quote(str(reference), safe="")
