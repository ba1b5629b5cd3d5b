"""Signups, logins, passwords, API keys and users."""

from __future__ import annotations

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.transport import Transport, path_segment


class AccountCalls(Transport):
    """Signups, logins, passwords, API keys and users."""

    def server_info(self, nonce: str | None = None) -> m.ServerInfo:
        return self._get("server", m.ServerInfo, params={"nonce": nonce} if nonce else None)

    def sign_up(self, body: m.SignupRequest) -> m.PendingSignup:
        return self._post("signups", m.PendingSignup, body)

    def confirm_signup(self, body: m.SignupConfirmation) -> m.Session:
        return self._post("signups/confirm", m.Session, body)

    def sign_up_invited(self, body: m.InvitedSignup) -> m.Session:
        return self._post("signups/invited", m.Session, body)

    def log_in(self, body: m.LoginRequest) -> m.Session:
        return self._post("sessions", m.Session, body)

    def refresh(self, refresh_token: str) -> m.Session:
        return self._post(
            "sessions/refresh", m.Session, m.RefreshRequest(refresh_token=refresh_token)
        )

    def log_out(self) -> None:
        self._delete("sessions/current")

    def log_out_everywhere(self) -> None:
        self._delete("sessions")

    def logins(self) -> list[m.Login]:
        return self._list("sessions", m.Login)

    def end_login(self, login: str) -> None:
        self._delete(f"sessions/{path_segment(login)}")

    def change_password(self, body: m.PasswordChange) -> None:
        self._request("POST", "users/me/password", json=body.model_dump(mode="json"))

    def request_password_reset(self, body: m.PasswordResetRequest) -> m.PendingReset:
        return self._post("password-resets", m.PendingReset, body)

    def confirm_password_reset(self, body: m.PasswordResetConfirmation) -> m.Session:
        return self._post("password-resets/confirm", m.Session, body)

    def me(self) -> m.User:
        return self._get("users/me", m.User)

    def create_key(self, project: str, body: m.ApiKeyCreate) -> m.ApiKeySecret:
        return self._post(f"projects/{project}/keys", m.ApiKeySecret, body)

    def keys(self, project: str) -> list[m.ApiKey]:
        return self._list(f"projects/{project}/keys", m.ApiKey)

    def delete_key(self, project: str, key: str) -> None:
        self._delete(f"projects/{project}/keys/{path_segment(key)}")

    def current_key(self) -> m.CurrentApiKey:
        return self._get("keys/current", m.CurrentApiKey)
