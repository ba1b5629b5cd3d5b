"""HTTP requests to addresses that users gave, kept away from what only this server can reach.

An address is looked at where the connection is made, so neither a name that resolves otherwise the
second time nor a redirect (none is followed) leads to a private one. Proxies of the environment
are not used.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpcore
import httpx

from periflow_sdk.errors import InvalidRequestError, PeriFlowError

SECONDS = 10.0
"""The whole time that a request may take."""
_CONNECT_SECONDS = 4.0
_MOST_BYTES = 64 << 10
_NAT64 = ipaddress.ip_network("64:ff9b::/96")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class NotSentError(PeriFlowError):
    """Nothing of the request has left."""

    default_code = "not_sent"


class OutcomeUnknownError(PeriFlowError):
    """The request, or a part of it, has left, and there was no whole answer."""

    default_code = "outcome_unknown"


@dataclass(frozen=True)
class Answer:
    """What came back; ``headers`` have lower-case names, a ``body`` that is too long is cut."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def post(
    url: str, headers: Mapping[str, str], body: bytes, *, private: bool, seconds: float = SECONDS
) -> Answer:
    """Post once.

    Args:
        url: An address that ``check_url`` let pass.
        private: Whether the address may be a private one.
        seconds: Bound on everything together.

    Raises:
        NotSentError: it could not be sent; with ``address_refused`` it never can be.
        OutcomeUnknownError: it was sent, and the answer is missing.
    """
    return _send("POST", url, headers, body, private=private, seconds=seconds, most=_MOST_BYTES)


def get(
    url: str,
    headers: Mapping[str, str],
    *,
    private: bool,
    seconds: float = SECONDS,
    most_bytes: int = _MOST_BYTES,
) -> Answer:
    """Get once; see :func:`post`.

    Args:
        most_bytes: Where the body is cut.
    """
    return _send("GET", url, headers, b"", private=private, seconds=seconds, most=most_bytes)


def _send(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    private: bool,
    seconds: float,
    most: int,
) -> Answer:
    network = _Network(private=private, deadline=time.monotonic() + seconds)
    try:
        with httpcore.ConnectionPool(_trust(url), network_backend=network, retries=0) as pool:
            return _exchange(pool, method, url, headers, body, most)
    except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
        reason = _reason(error)
        if network.has_sent:
            raise OutcomeUnknownError(f"no answer: {reason}") from error
        raise NotSentError(reason) from error


def check_url(url: str) -> None:
    """Refuse what is no address of a webhook, whatever it resolves to.

    Raises:
        InvalidRequestError: ``invalid_webhook_url``.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _no_address("it cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise _no_address("it has to be https://HOST/PATH or http://HOST/PATH")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise _no_address("it has characters that have to be written as %XX")
    if parts.username is not None or parts.password is not None:
        raise _no_address("it has a user name in it; messages are signed instead")
    if parts.fragment:
        raise _no_address("it has a part behind '#', which no server sees")


def refuse_private(url: str) -> None:
    """Refuse an address that leads to this machine or its private network.

    Raises:
        InvalidRequestError: ``address_refused``; or its name is unknown (``host_unknown``).
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        _public_addresses(host, parts.port or 443)
    except NotSentError as error:
        if error.code == "address_refused":
            raise InvalidRequestError(error.message, code=error.code, hint=error.hint) from error
        raise InvalidRequestError(
            f"The host {host} is not known to the server.",
            code="host_unknown",
            hint="Check the address.",
        ) from error


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet, in whatever form it is written."""
    ip = _ip(address)
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _ip(address: str) -> _Address:
    ip: _Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    return ip


class _Network(httpcore.SyncBackend):
    """Connects to the address that was looked at, and ends everything at the deadline."""

    def __init__(self, *, private: bool, deadline: float) -> None:
        self._private = private
        self.deadline = deadline
        self.has_sent = False

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        resolve = _addresses if self._private else _public_addresses
        failure: httpcore.NetworkError | httpcore.TimeoutException = httpcore.ConnectError("?")
        for address in resolve(host, port):
            try:
                seconds = min(_CONNECT_SECONDS, self.left())
                stream = super().connect_tcp(address, port, seconds, local_address, socket_options)
                return _Stream(stream, self)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    def left(self) -> float:
        """The seconds left."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("timed out")
        return left


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, network: _Network) -> None:
        self._stream = stream
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._network.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        seconds = self._network.left()
        self._network.has_sent = True
        self._stream.write(buffer, seconds)

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._network.left())
        return _Stream(stream, self._network)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _exchange(
    pool: httpcore.ConnectionPool,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    most: int,
) -> Answer:
    sent = {**headers, "Host": urlsplit(url).netloc, "Connection": "close"}
    fields = [(name.encode(), value.encode()) for name, value in sent.items()]
    if method == "POST":
        fields.append((b"Content-Length", str(len(body)).encode()))
    with pool.stream(method, url, headers=fields, content=body) as response:
        text = bytearray()
        for piece in response.iter_stream():
            text += piece
            if len(text) >= most:
                break
        given = {
            name.decode("latin-1").lower(): v.decode("latin-1") for name, v in response.headers
        }
        return Answer(response.status, given, bytes(text[:most]))


def _trust(url: str) -> ssl.SSLContext | None:
    return httpx.create_ssl_context() if url.startswith("https:") else None


def _public_addresses(host: str, port: int) -> list[str]:
    found = _addresses(host, port)
    # One private address among public ones is a trick, not a mistake.
    if not all(is_public(address) for address in found):
        raise _refused(host, "private: this server does not call into its own network")
    return found


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotSentError(f"the host {host} is not known") from error
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    # Nobody's service is there, but what tells a machine in a cloud its keys.
    if any(_ip(address).is_link_local for address in addresses):
        raise _refused(host, "link-local")
    return addresses


def _refused(host: str, why: str) -> NotSentError:
    return NotSentError(
        f"The address {host} is {why}.",
        code="address_refused",
        hint="Give one that everybody can reach.",
    )


def _reason(error: Exception) -> str:
    if isinstance(error, httpcore.TimeoutException):
        return "timed out"
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {cause.verify_message}"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror.lower()
    return str(error) or type(error).__name__


def _no_address(why: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"This is no address of a webhook: {why}.",
        code="invalid_webhook_url",
        hint="pf notify add webhook https://HOST/PATH",
        data={"field": "url"},
    )
