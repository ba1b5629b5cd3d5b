"""How a GET says to an S3 store who asks: version 4 of the signature, in the header.

The client for everything signs what others send in the address alone, which takes several times as
long, and the store longer to check.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from urllib.parse import quote

_CONTENT = "UNSIGNED-PAYLOAD"
_SIGNED = "host;x-amz-content-sha256;x-amz-date"


class S3Signature:
    """Signs for one key.

    Args:
        host: As the request names it, with its port if that is not the usual one.
        region: Where the bucket lies.
        key: The access key's id.
        secret: Its secret.
    """

    def __init__(self, host: str, region: str, key: str, secret: str) -> None:
        self._host = host
        self._region = region
        self._key = key
        self._secret = secret
        self._day = ""
        self._day_key = b""

    def header(self, target: str, now: str) -> str:
        """The lines of a GET's header.

        Args:
            target: The path, quoted as `quoted` does.
            now: When it is asked for: ``20301231T235959Z``.
        """
        if now[:8] != self._day:
            self._begin(now[:8])
        scope = f"{self._day}/{self._region}/s3/aws4_request"
        request = (
            f"GET\n{target}\n\nhost:{self._host}\nx-amz-content-sha256:{_CONTENT}\n"
            f"x-amz-date:{now}\n\n{_SIGNED}\n{_CONTENT}"
        )
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self._day_key, text.encode(), "sha256").hex()
        return (
            f"x-amz-date: {now}\r\nx-amz-content-sha256: {_CONTENT}\r\n"
            f"Authorization: AWS4-HMAC-SHA256 Credential={self._key}/{scope},"
            f"SignedHeaders={_SIGNED},Signature={signature}\r\n"
        )

    def _begin(self, day: str) -> None:
        key = f"AWS4{self._secret}".encode()
        for each in (day, self._region, "s3", "aws4_request"):
            key = hmac.digest(key, each.encode(), "sha256")
        self._day, self._day_key = day, key


def quoted(key: str) -> str:
    """An object's key as it stands in an address and is signed."""
    return quote(key, safe="/")
