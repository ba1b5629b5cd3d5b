"""The shared access signatures (SAS) of Azure Blob Storage."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from datetime import datetime
from urllib.parse import quote, urlencode

VERSION = "2020-12-06"


def sas_query(
    account: str, key: str, resource: str, *, may: str, kind: str, is_https: bool, until: datetime
) -> str:
    """The query that lets anybody use a resource until then.

    Args:
        key: The account's, in base64.
        resource: A container, or a blob below one.
        may: The rights: ``r`` to read, ``l`` to list, ``c`` to create, ``w`` to write.
        kind: ``c`` for a container, ``b`` for a blob.
        is_https: Whether it holds for nothing but HTTPS.
    """
    expiry = f"{until:%Y-%m-%dT%H:%M:%SZ}"
    protocol = "https" if is_https else "https,http"
    whole = f"/blob/{account}/{resource}"
    fields = [may, "", expiry, whole, "", "", protocol, VERSION, kind, *("",) * 7]
    digest = hmac.digest(b64decode(key), "\n".join(fields).encode(), "sha256")
    query = {"sp": may, "se": expiry, "spr": protocol, "sv": VERSION, "sr": kind}
    return urlencode({**query, "sig": b64encode(digest).decode()}, quote_via=quote)
