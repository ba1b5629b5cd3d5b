"""The signatures of AWS and of Google, which differ in names and in who signs.

The form is that of AWS Signature Version 4; Google's V4 signed URLs follow it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from urllib.parse import quote

EMPTY = sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"


@dataclass(frozen=True)
class Signer:
    """Who signs, for which service.

    ``scope`` are the parts behind the date; ``sign`` turns a date and a text into the signature.
    """

    algorithm: str
    name: str
    key_id: str
    scope: tuple[str, ...]
    sign: Callable[[str, str], str]

    def headers(
        self, host: str, path: str, query: Mapping[str, str], at: datetime
    ) -> dict[str, str]:
        """The headers of a signed GET without a body.

        Args:
            path: As it is in the address, with its escapes.
        """
        sent = {
            "host": host,
            f"x-{self.name}-content-sha256": EMPTY,
            f"x-{self.name}-date": _moment(at),
        }
        names = ";".join(sorted(sent))
        signature = self._signature(path, query, sent, EMPTY, at)
        credential = f"Credential={self.key_id}/{self._scope(at)}"
        del sent["host"]  # whoever sends it says that himself
        sent["authorization"] = (
            f"{self.algorithm} {credential}, SignedHeaders={names}, Signature={signature}"
        )
        return sent

    def query(
        self,
        host: str,
        path: str,
        at: datetime,
        seconds: int,
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> str:
        """The query of an address that anybody can use for so many seconds.

        Args:
            headers: With lower-case names: what has to be sent along, exactly so.
            more: What else the query has.
        """
        start = f"X-{self.name.title()}-"
        sent = {"host": host, **(headers or {})}
        query = {
            f"{start}Algorithm": self.algorithm,
            f"{start}Credential": f"{self.key_id}/{self._scope(at)}",
            f"{start}Date": _moment(at),
            f"{start}Expires": str(seconds),
            f"{start}SignedHeaders": ";".join(sorted(sent)),
            **(more or {}),
        }
        signature = self._signature(path, query, sent, UNSIGNED, at, method)
        return f"{query_text(query)}&{start}Signature={signature}"

    def _scope(self, at: datetime) -> str:
        return "/".join((f"{at:%Y%m%d}", *self.scope))

    def _signature(
        self,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        payload: str,
        at: datetime,
        method: str = "GET",
    ) -> str:
        fields = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        request = (method, path, query_text(query), fields, ";".join(sorted(headers)), payload)
        digest = sha256("\n".join(request).encode()).hexdigest()
        text = "\n".join((self.algorithm, _moment(at), self._scope(at), digest))
        return self.sign(f"{at:%Y%m%d}", text)


def aws_signer(key_id: str, secret: str, region: str) -> Signer:
    """An AWS key, for S3 in a region."""

    def sign(date: str, text: str) -> str:
        key = f"AWS4{secret}".encode()
        for part in (date, region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return hmac.digest(key, text.encode(), "sha256").hex()

    return Signer("AWS4-HMAC-SHA256", "amz", key_id, (region, "s3", "aws4_request"), sign)


def google_signer(email: str, sign_bytes: Callable[[bytes], bytes]) -> Signer:
    """A service account, for Google Cloud Storage."""

    def sign(_: str, text: str) -> str:
        return sign_bytes(text.encode()).hex()

    return Signer("GOOG4-RSA-SHA256", "goog", email, ("auto", "storage", "goog4_request"), sign)


def query_text(query: Mapping[str, str]) -> str:
    """A query in the order and with the escapes that are signed."""
    pairs = sorted((quote(name, safe=""), quote(text, safe="")) for name, text in query.items())
    return "&".join(f"{name}={text}" for name, text in pairs)


def _moment(at: datetime) -> str:
    return f"{at:%Y%m%dT%H%M%SZ}"
