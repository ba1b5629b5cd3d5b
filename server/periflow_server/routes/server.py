"""The server itself: open to all."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from periflow_sdk.api import models as m
from periflow_server.routes import PREFIX
from periflow_server.routes.dependencies import CurrentSettings
from periflow_server.services import server

router = APIRouter(prefix=PREFIX, tags=["server"])


@router.get("/server")
async def server_info(
    settings: CurrentSettings, nonce: Annotated[str | None, Query(max_length=200)] = None
) -> m.ServerInfo:
    """Who answers here; with a nonce, the embedded server's proof that it holds its key."""
    return server.server_info(settings, nonce)


@router.get("/health")
async def health() -> dict[str, str]:
    """Whether the server takes requests."""
    return {"status": "ok"}
