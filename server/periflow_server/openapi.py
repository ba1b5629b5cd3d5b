"""The OpenAPI document: what FastAPI writes, and every answer that a route can refuse with.

Which those are follows from what the route asks for: a login, a role, names in its path, a body,
tries that are limited. All are problem documents.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel

from periflow_server.routes import dependencies

_ALWAYS = (500, 503)


class Problem(BaseModel):
    """Why a request was refused (RFC 9457). ``code`` is stable and meant for programs."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    hint: str | None
    data: dict[str, Any]
    request_id: str | None


def describe(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Have the application publish its answers in full.

    Args:
        routers: Those whose routes are the API.
    """
    routes = {
        (route.path, method.lower()): route
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute) and route.methods
        for method in route.methods
    }
    write = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            _complete(write(), routes)
        assert app.openapi_schema is not None
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _complete(document: dict[str, Any], routes: dict[tuple[str, str], APIRoute]) -> None:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = Problem.model_json_schema()
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            route = routes.get((path, method))
            if route is not None:
                _complete_operation(operation, route)


def _complete_operation(operation: dict[str, Any], route: APIRoute) -> None:
    calls = set(_calls(route.dependant))
    if dependencies.needs_login(calls):
        operation["security"] = [{"bearer": []}]
    for status in sorted(_refusals(route, calls)):
        operation["responses"][str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            },
        }


def _refusals(route: APIRoute, calls: set[Any]) -> set[int]:
    found = set(_ALWAYS)
    has_body = route.body_field is not None or dependencies.reads_body(calls)
    if dependencies.needs_login(calls):
        # 409: the token of an attempt that has ended.
        found |= {401, 403, 404, 409}
    if has_body:
        found |= {400, 413, 422}
    if "{" in route.path or route.dependant.query_params:
        found |= {404, 422}
    if has_body or route.methods != {"GET"}:
        found |= {409, 422}
    if dependencies.is_throttled(calls):
        found.add(429)
    return found | {int(status) for status in route.responses if int(status) >= 400}


def _calls(dependant: Dependant) -> Iterator[Any]:
    for dependency in dependant.dependencies:
        yield dependency.call
        yield from _calls(dependency)
