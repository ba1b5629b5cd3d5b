"""Where a linked dataset is, and what opens it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

from periflow_sdk.api.models import Cloud
from periflow_sdk.errors import InvalidRequestError
from periflow_server.outbound import refuse_private


@dataclass(frozen=True)
class Place:
    """A bucket with the values of a credential for it; they show nowhere.

    ``verified_at`` is when the credential was last seen to be right.
    """

    cloud: Cloud
    storage_name: str
    region: str | None
    prefix: str
    endpoint_url: str | None
    credential: str
    verified_at: datetime | None
    values: dict[str, str] = field(repr=False)

    @property
    def base(self) -> str:
        """What every key of it starts with: nothing, or a folder with its slash."""
        folder = self.prefix.strip("/")
        return f"{folder}/" if folder else ""


def check_endpoint(url: str, *, private: bool, looks_up: bool = True) -> None:
    """Refuse what is no address of a service, or one that leads into the server's own network.

    Args:
        private: Whether such are allowed here, and addresses that are not encrypted with them.
        looks_up: Whether to ask where the name leads, which may take its time.

    Raises:
        InvalidRequestError: ``invalid_endpoint``, ``address_refused`` or ``host_unknown``.
    """
    try:
        parts = urlsplit(url)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one or not url.isascii() or not url.isprintable():
        raise InvalidRequestError(
            "The endpoint URL is no address of a service: it has to be https://HOST or "
            "https://HOST:PORT.",
            code="invalid_endpoint",
            data={"field": "endpoint_url"},
        )
    if not private:
        if looks_up:
            refuse_private(url)
        if parts.scheme != "https":
            raise InvalidRequestError(
                "The endpoint URL is not encrypted: signatures could be read on the way.",
                code="invalid_endpoint",
                hint="Give its https:// address.",
                data={"field": "endpoint_url"},
            )
