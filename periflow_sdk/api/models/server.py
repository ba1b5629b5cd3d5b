"""What a server says of itself."""

from __future__ import annotations

from periflow_sdk.api.models.wire import Wire


class ServerInfo(Wire):
    """`GET /server`: open to all. ``proof`` is HMAC-SHA256(key file, nonce) when embedded."""

    version: str
    pid: int
    embedded: bool
    data_dir: str | None = None
    proof: str | None = None
