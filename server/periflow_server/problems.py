"""Errors as RFC 9457 problem documents, with a stable ``code``."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from periflow_sdk.errors import ApiError, PeriFlowError

_STATUS_BY_CODE = {"too_large": 413, "range_not_satisfiable": 416}
_NEW_PASSWORDS = frozenset({"password", "new_password"})
_CODE_BY_STATUS = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    hint: str | None = None,
    data: Mapping[str, Any] | None = None,
    request_id: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem document."""
    document = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "hint": hint,
        "data": dict(data or {}),
        "request_id": request_id,
    }
    return JSONResponse(
        document,
        status_code=status,
        headers=dict(headers or {}),
        media_type="application/problem+json",
    )


def install(app: FastAPI) -> None:
    """Answer our errors, wrong requests and unknown routes with problem documents."""
    app.add_exception_handler(PeriFlowError, _on_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)


def request_id(request: Request) -> str | None:
    """The id this request goes by in the log."""
    value: str | None = request.scope.get("request_id")
    return value


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PeriFlowError)
    status = error.status if isinstance(error, ApiError) else 422
    status = _STATUS_BY_CODE.get(error.code, status)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if "retry_after_seconds" in error.data:
        headers["Retry-After"] = str(error.data["retry_after_seconds"])
    return problem(
        status,
        error.code,
        error.message,
        hint=error.hint,
        data=error.data,
        request_id=request_id(request),
        headers=headers,
    )


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    reason = str(first["msg"]).removeprefix("Value error, ")
    detail = f"{field}: {reason}." if field else f"{reason}."
    is_weak = field in _NEW_PASSWORDS and first.get("ctx", {}).get("min_length", 0) > 1
    # The value itself stays out: it may be a password.
    return problem(
        422,
        "weak_password" if is_weak else "invalid_request",
        detail,
        data={"field": field, "errors": len(error.errors())},
        request_id=request_id(request),
    )


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status = error.status_code
    detail = str(error.detail)
    if status == 404 and detail == "Not Found":
        detail = f"There is no {request.method} {request.url.path} here."
    return problem(
        status,
        _CODE_BY_STATUS.get(status, "invalid_request"),
        detail,
        request_id=request_id(request),
        headers=error.headers,
    )
