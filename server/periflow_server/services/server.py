"""What the server says about itself, and how it proves that it holds the key."""

from __future__ import annotations

import os

from periflow_sdk.api import models as m
from periflow_sdk.api.proof import proof
from periflow_server import __version__
from periflow_server.settings import Settings


def server_info(settings: Settings, nonce: str | None) -> m.ServerInfo:
    """Version, process, and for an embedded server the proof for ``nonce``."""
    proves = settings.embedded and nonce is not None
    return m.ServerInfo(
        version=__version__,
        pid=os.getpid(),
        embedded=settings.embedded,
        data_dir=str(settings.data_dir) if settings.embedded else None,
        proof=proof(settings.key, nonce or "", settings.port) if proves else None,
    )
