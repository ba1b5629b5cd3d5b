"""Notifications; ``project`` is an id, ``notification`` an id or its unique start."""

from __future__ import annotations

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.transport import Transport, path_segment


class NotificationCalls(Transport):
    """Notifications; ``project`` is an id, ``notification`` an id or its unique start."""

    def create_notification(
        self,
        project: str,
        body: m.SlackNotificationCreate | m.WebhookNotificationCreate | m.EmailNotificationCreate,
    ) -> m.Notification:
        return self._post(f"projects/{project}/notifications", m.Notification, body)

    def notifications(self, project: str) -> list[m.Notification]:
        return self._list(f"projects/{project}/notifications", m.Notification)

    def notification(self, project: str, notification: str) -> m.Notification:
        return self._get(_path(project, notification), m.Notification)

    def delete_notification(self, project: str, notification: str) -> None:
        self._delete(_path(project, notification))

    def renew_notification_secret(self, project: str, notification: str) -> m.NotificationSecret:
        """A new secret for a webhook; the one before is gone."""
        return self._post(f"{_path(project, notification)}/secret", m.NotificationSecret, None)

    def test_notification(self, project: str, notification: str) -> m.Delivery:
        """Send a test message; ``deliveries`` tells what becomes of it."""
        return self._post(f"{_path(project, notification)}/test", m.Delivery, None)

    def deliveries(
        self, project: str, notification: str, *, limit: int | None = None
    ) -> list[m.Delivery]:
        """The messages of a rule, newest first."""
        path = f"{_path(project, notification)}/deliveries"
        return self._list(path, m.Delivery, limit=limit)


def _path(project: str, notification: str) -> str:
    return f"projects/{project}/notifications/{path_segment(notification)}"
