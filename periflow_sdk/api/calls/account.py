"""Signups, logins and users."""

from __future__ import annotations

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.transport import Transport


class AccountCalls(Transport):
    """Signups, logins and users."""

    def server_info(self, nonce: str | None = None) -> m.ServerInfo:
        return self._get("server", m.ServerInfo, params={"nonce": nonce} if nonce else None)

    def sign_up(self, body: m.SignupRequest) -> m.PendingSignup:
        return self._post("signups", m.PendingSignup, body)

    def confirm_signup(self, body: m.SignupConfirmation) -> m.Session:
        return self._post("signups/confirm", m.Session, body)

    def log_in(self, body: m.LoginRequest) -> m.Session:
        return self._post("sessions", m.Session, body)

    def refresh(self, refresh_token: str) -> m.Session:
        return self._post(
            "sessions/refresh", m.Session, m.RefreshRequest(refresh_token=refresh_token)
        )

    def log_out(self) -> None:
        self._delete("sessions/current")

    def me(self) -> m.User:
        return self._get("users/me", m.User)
