"""One list call to an object store, for a bucket that nobody has.

A key that is right is told that there is no such bucket, or that it may not look; a wrong one is
refused before anything is looked for. So nothing of the user's is read, and keys that may do
little are not asked for more.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from periflow_server.verification.verdict import SECONDS, refused, unavailable

if TYPE_CHECKING:
    from obstore.store import AzureStore, S3Store

_CODE = re.compile(r"<Code>\s*([A-Za-z0-9]{1,80})\s*</Code>")


def bucket_of_nobody() -> str:
    """A name that no bucket has."""
    return f"periflow-{uuid.uuid4().hex}"


def options(url: str) -> dict[str, Any]:
    """How a store is reached: without waiting long, and in clear text only if the address says so.

    Args:
        url: The address of the service.
    """
    return {
        "client_options": {
            "timeout": f"{SECONDS:.0f}s",
            "connect_timeout": "4s",
            "allow_http": url.startswith("http://"),
        },
        "retry_config": {"max_retries": 0, "retry_timeout": timedelta(seconds=SECONDS)},
    }


def list_once(
    service: str, open_store: Callable[[], S3Store | AzureStore], welcome: Collection[str]
) -> None:
    """List, and judge the answer.

    Args:
        welcome: The error codes that only those get whose key is right.

    Raises:
        InvalidRequestError: see ``verification.check``.
    """
    import obstore

    try:
        obstore.list_with_delimiter(open_store())
    except Exception as error:  # the library has a class a status, and a base that is not public
        code = _CODE.search(str(error))
        if code is None:
            raise unavailable(service, _words(error)) from None
        if code[1] not in welcome:
            raise refused(service, code[1]) from None


def _words(error: Exception) -> str:
    text = str(error).partition("Debug source")[0]
    return "timed out" if "timed out" in text else "no answer"
