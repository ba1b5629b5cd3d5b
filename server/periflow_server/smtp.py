"""One connection to the mail server of ``SMTP_URL``, and what its answers mean.

    smtp://user:password@host:587      STARTTLS, which the server must offer
    smtps://user:password@host:465     TLS from the first byte
    smtp://host:25?tls=none            in the clear

A mail server on this machine may do without TLS. Certificates are those the system trusts, or
those of ``SSL_CERT_FILE``.
"""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from ipaddress import ip_address
from typing import Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

from periflow_sdk.errors import UsageError
from periflow_server.settings import Settings

_SECONDS = 20
_FORM = "smtp://USER:PASSWORD@HOST:587 or smtps://USER:PASSWORD@HOST:465"
Outcome = Literal["sent", "failed", "retry"]


@dataclass(frozen=True)
class SmtpAddress:
    """What ``SMTP_URL`` says."""

    host: str
    port: int
    tls: Literal["implicit", "starttls", "none"]
    username: str | None
    password: str | None


class MailServer:
    """The mail server; connects when there is something to send."""

    def __init__(self, settings: Settings) -> None:
        self._address = read_address(settings.smtp_url or "")
        self._connection: smtplib.SMTP | None = None
        self._fault: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._hang_up(self._connection)

    def send(self, recipient: str, message: EmailMessage) -> tuple[Outcome, str | None]:
        """One try; ``failed`` when this mail will never be taken, and why it was not sent."""
        if self._fault:  # nothing can be sent now; the other mails need not wait to hear it too
            return "retry", self._fault
        try:
            if self._connection is None:
                self._connection = _connect(self._address)
        except (OSError, smtplib.SMTPException, _NoTlsError) as error:
            self._fault = f"the mail server cannot be used: {_reason(error)}"
            return "retry", self._fault
        try:
            self._connection.send_message(message, to_addrs=[recipient])
        except smtplib.SMTPRecipientsRefused as error:
            code, text = next(iter(error.recipients.values()))
            return _refused(code), f"the mail server refused the address: {_said(code, text)}"
        except smtplib.SMTPDataError as error:
            said = _said(error.smtp_code, error.smtp_error)
            return _refused(error.smtp_code), f"the mail server refused the mail: {said}"
        except (smtplib.SMTPNotSupportedError, UnicodeError):
            return "failed", "the mail server takes no such address"
        except (OSError, smtplib.SMTPException) as error:
            self._hang_up(self._connection)
            self._connection = None
            return "retry", f"the mail server did not take it: {_reason(error)}"
        return "sent", None

    def _hang_up(self, connection: smtplib.SMTP) -> None:
        try:
            connection.quit()
        except (OSError, smtplib.SMTPException):
            connection.close()


class _NoTlsError(Exception):
    pass


def read_address(url: str) -> SmtpAddress:
    """What ``SMTP_URL`` says.

    Raises:
        UsageError: it is wrong; the message does not repeat it, for it has a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise _wrong() from None
    tls = parse_qs(parts.query).get("tls", ["starttls"])[-1]
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.path not in ("", "/"):
        raise _wrong()
    if tls not in ("starttls", "none"):
        raise _wrong()
    is_implicit = parts.scheme == "smtps"
    return SmtpAddress(
        host=parts.hostname,
        port=port or (465 if is_implicit else 587),
        tls="implicit" if is_implicit else "none" if tls == "none" else "starttls",
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


def _wrong() -> UsageError:
    return UsageError(
        "PERIFLOW_SERVER_SMTP_URL is no address of a mail server.", hint=f"Set it to {_FORM}."
    )


def _connect(address: SmtpAddress) -> smtplib.SMTP:
    if address.tls == "implicit":
        context = ssl.create_default_context()
        connection: smtplib.SMTP = smtplib.SMTP_SSL(
            address.host, address.port, timeout=_SECONDS, context=context
        )
    else:
        connection = smtplib.SMTP(address.host, address.port, timeout=_SECONDS)
    try:
        connection.ehlo_or_helo_if_needed()
        if address.tls == "starttls":
            _start_tls(connection, address)
        if address.username is not None:
            connection.login(address.username, address.password or "")
    except BaseException:
        connection.close()
        raise
    return connection


def _start_tls(connection: smtplib.SMTP, address: SmtpAddress) -> None:
    if connection.has_extn("starttls"):
        connection.starttls(context=ssl.create_default_context())
        connection.ehlo()
    elif not _is_here(address.host):
        raise _NoTlsError(
            "it offers no STARTTLS; if mail may be read on its way, add ?tls=none to SMTP_URL"
        )


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _refused(code: int) -> Outcome:
    return "failed" if 500 <= code < 600 else "retry"


def _reason(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        return _said(error.smtp_code, error.smtp_error)
    if isinstance(error, smtplib.SMTPSenderRefused):
        return _said(error.smtp_code, error.smtp_error)
    return " ".join(str(error).split()) or type(error).__name__


def _said(code: int, text: bytes | str) -> str:
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return f"{code} {' '.join(words.split())}"
