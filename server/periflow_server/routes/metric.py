"""Metrics of a job."""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Response

from periflow_sdk.api import models as m
from periflow_server.permissions import Action
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import Db, Page, project_access
from periflow_server.services import job as jobs
from periflow_server.services import metric as service
from periflow_server.services.access import ProjectAccess

router = APIRouter(prefix=PREFIX + "/projects/{project}/jobs/{job}/metrics", tags=["metrics"])


@router.get("")
def list_metrics(
    access: Annotated[ProjectAccess, project_access(Action.JOB_READ)],
    job: str,
    database: Db,
    system: bool = False,
) -> Page[m.MetricName]:
    """The metrics the job has given, by name; with ``system`` those of its machines, too."""
    with database.read() as session:
        row, _ = jobs.find(session, access.project_id, job)
        return Page(items=service.names(session, row.id, system=system))


@router.get("/series", response_model=m.MetricSeries)
def metric_series(
    access: Annotated[ProjectAccess, project_access(Action.JOB_READ)],
    job: str,
    database: Db,
    name: Annotated[str, Query(min_length=1, max_length=256)],
    rank: Annotated[int, Query(ge=-(1 << 20), lt=1 << 20)] = 0,
    max_points: Annotated[int | None, Query(ge=2, lt=1 << 31)] = None,
    last: Annotated[int | None, Query(ge=1, lt=1 << 31)] = None,
    mean: bool = False,
) -> Response:
    """One metric of one rank, or the ``mean`` of all ranks at each step.

    Downsampled to about ``max_points``, or only the ``last`` points.
    """
    with database.read() as session:
        row, _ = jobs.find(session, access.project_id, job)
        if mean:
            points = service.mean(session, row.id, name, max_points=max_points, last=last)
        else:
            points = service.series(session, row.id, name, rank, max_points=max_points, last=last)
    document = {
        "name": name,
        "rank": None if mean else rank,
        "steps": points.steps.tolist(),
        "times": points.times.tolist(),
        "values": service.json_values(points),
    }
    return Response(orjson.dumps(document), media_type="application/json")
