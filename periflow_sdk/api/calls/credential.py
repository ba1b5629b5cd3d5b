"""Credentials; ``credential`` is a name, an id or the unique start of one."""

from __future__ import annotations

from dataclasses import dataclass

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.transport import Transport, path_segment


@dataclass(frozen=True)
class CredentialPlace:
    """Where credentials are: a project (which sees its organization's too), or an organization."""

    path: str

    @classmethod
    def of_project(cls, project_id: str) -> CredentialPlace:
        return cls(f"projects/{project_id}/credentials")

    @classmethod
    def of_organization(cls, organization_id: str) -> CredentialPlace:
        return cls(f"organizations/{organization_id}/credentials")


class CredentialCalls(Transport):
    """Credentials; ``credential`` is a name, an id or the unique start of one."""

    def create_credential(
        self, place: CredentialPlace, body: m.AnyCredentialCreate, *, verify: bool = True
    ) -> m.Credential:
        """Store a credential, once the service it is for has taken it.

        Args:
            verify: False stores it unseen.
        """
        return self._post(f"{place.path}{_query(verify=verify)}", m.Credential, body)

    def credentials(
        self, place: CredentialPlace, type: m.CredentialType | None = None
    ) -> list[m.Credential]:
        return self._list(place.path, m.Credential, {"type": type} if type else None)

    def credential(self, place: CredentialPlace, credential: str) -> m.Credential:
        """With what uses it."""
        return self._get(f"{place.path}/{path_segment(credential)}", m.Credential)

    def update_credential(
        self,
        place: CredentialPlace,
        credential: str,
        body: m.CredentialUpdate,
        *,
        verify: bool = True,
    ) -> m.Credential:
        path = f"{place.path}/{path_segment(credential)}{_query(verify=verify)}"
        return self._patch(path, m.Credential, body)

    def delete_credential(
        self, place: CredentialPlace, credential: str, *, force: bool = False
    ) -> None:
        """Delete it.

        Args:
            force: Although something uses it.
        """
        self._delete(f"{place.path}/{path_segment(credential)}{_query(force=force)}")


def _query(**flags: bool) -> str:
    return "?" + "&".join(f"{name}={str(value).lower()}" for name, value in flags.items())
