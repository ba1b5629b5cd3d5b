"""What the server says about itself, and how it proves that it holds the key."""

from __future__ import annotations

import hashlib
import hmac
import os

from periflow_sdk.api import models as m
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
        proof=_proof(settings, nonce or "") if proves else None,
    )


def _proof(settings: Settings, nonce: str) -> str:
    # The port is in it, so that a stranger's port cannot pass on the questions it gets.
    text = f"periflow-server:{nonce}:{settings.port}".encode()
    return hmac.new(settings.key, text, hashlib.sha256).hexdigest()
