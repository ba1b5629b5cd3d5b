"""A real mail server on this machine: STARTTLS, a login, and what arrived."""

from __future__ import annotations

import email
import re
import ssl
import time
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword
from certificate import write_certificate

USERNAME, PASSWORD = "periflow", "the-password-of-the-mail-server"


class MailServer:
    """Takes mail from whoever logs in over TLS.

    ``variables`` tell a server to send its mail here, ``mails`` is what arrived, ``refusal`` may
    answer to a mail instead of taking it.

    Args:
        folder: For the certificate.
        offers_tls: False for one that would take the password, and the mail, in the clear.
    """

    def __init__(self, folder: Path, *, offers_tls: bool = True) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.refusal: Callable[[Envelope], str | None] = lambda _: None
        self.offered = 0
        self.login_attempts = 0
        certificate = write_certificate(folder / "mail-server.pem")
        self._options: dict[str, Any] = {"auth_required": True, "authenticator": self._log_in}
        if offers_tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._options |= {"tls_context": context, "require_starttls": True}
        else:
            self._options |= {"auth_require_tls": False}
        self.port = 0
        self._controller: _FreePort | None = None
        self.open()
        self.variables = {
            "PERIFLOW_SERVER_SMTP_URL": f"smtp://{USERNAME}:{PASSWORD}@127.0.0.1:{self.port}",
            "SSL_CERT_FILE": str(certificate),
        }

    def open(self) -> None:
        """Listen, on the port of before if there was one."""
        self._controller = _FreePort(self, hostname="127.0.0.1", port=self.port, **self._options)
        self._controller.start()
        self.port = self._controller.port

    def close(self) -> None:
        """Answer nobody any more."""
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:
        self.offered += 1
        if refusal := self.refusal(envelope):
            return refusal
        content = cast(bytes, envelope.content)
        self.recipients.extend(envelope.rcpt_tos)
        self.mails.append(cast(EmailMessage, email.message_from_bytes(content, policy=default)))
        return "250 OK"

    def newest(self, to: str, about: str, seconds: float = 90) -> str:
        """The text of the newest mail to this address whose subject has these words."""
        deadline = time.monotonic() + seconds
        while True:
            for mail in reversed(self.mails):
                if mail["To"] == to and about in mail["Subject"]:
                    return str(mail.get_content())
            assert time.monotonic() < deadline, f"no mail to {to} about {about!r}"
            time.sleep(0.02)

    def _log_in(self, server: Any, session: Any, envelope: Any, kind: str, data: Any) -> AuthResult:
        self.login_attempts += 1
        wanted = LoginPassword(USERNAME.encode(), PASSWORD.encode())
        return AuthResult(success=data == wanted, handled=False)


class _FreePort(Controller):
    """Finds out which port it was given before it tries whether somebody answers there."""

    def _trigger_server(self) -> None:
        self.port = cast(Any, self.server).sockets[0].getsockname()[1]
        super()._trigger_server()  # type: ignore[no-untyped-call]


def found(pattern: str, text: str) -> str:
    """What the pattern's group has in the text."""
    match = re.search(pattern, text)
    assert match is not None, f"no {pattern} in {text}"
    return match[1]
