"""Organizations, their members and what they used; ``organization`` is an id."""

from __future__ import annotations

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.transport import Transport, path_segment


class OrganizationCalls(Transport):
    """Organizations, their members and what they used; ``organization`` is an id."""

    def create_organization(self, name: str) -> m.Organization:
        return self._post("organizations", m.Organization, m.OrganizationCreate(name=name))

    def organizations(self) -> list[m.Organization]:
        return self._list("organizations", m.Organization)

    def delete_organization(self, organization: str) -> None:
        self._delete(f"organizations/{organization}")

    def leave_organization(self, organization: str) -> None:
        self._delete(f"organizations/{organization}/membership")

    def organization_members(self, organization: str) -> list[m.OrganizationMember]:
        return self._list(f"organizations/{organization}/members", m.OrganizationMember)

    def set_organization_role(
        self, organization: str, username: str, role: str
    ) -> m.OrganizationMember:
        path = f"organizations/{organization}/members/{path_segment(username)}"
        return self._patch(path, m.OrganizationMember, m.RoleChange(role=role))

    def remove_organization_member(self, organization: str, username: str) -> None:
        self._delete(f"organizations/{organization}/members/{path_segment(username)}")

    def usage(
        self, organization: str, *, since: str | None = None, until: str | None = None
    ) -> list[m.Usage]:
        """Device hours, of the months (``2024-05``) from ``since`` to ``until``."""
        params = {name: month for name, month in (("since", since), ("until", until)) if month}
        return self._list(f"organizations/{organization}/usage", m.Usage, params)

    def invite(self, organization: str, email: str) -> m.Invitation:
        path = f"organizations/{organization}/invitations"
        return self._post(path, m.Invitation, m.InvitationCreate(email=email))

    def invitations(self, organization: str) -> list[m.Invitation]:
        return self._list(f"organizations/{organization}/invitations", m.Invitation)

    def resend_invitation(self, organization: str, invitation: str) -> m.Invitation:
        """``invitation`` is an id or an address; the code of the earlier mail stops working."""
        name = path_segment(invitation)
        path = f"organizations/{organization}/invitations/{name}/resend"
        return self._post(path, m.Invitation, None)

    def revoke_invitation(self, organization: str, invitation: str) -> None:
        self._delete(f"organizations/{organization}/invitations/{path_segment(invitation)}")

    def accept_invitation(self, code: str) -> m.Organization:
        """``code`` is the code or the link from the mail."""
        return self._post("invitations/accept", m.Organization, m.InvitationAccept(code=code))
