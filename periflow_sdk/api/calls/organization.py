"""Organizations and projects; ``organization`` is an id."""

from __future__ import annotations

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.transport import Transport


class OrganizationCalls(Transport):
    """Organizations and projects; ``organization`` is an id."""

    def create_organization(self, name: str) -> m.Organization:
        return self._post("organizations", m.Organization, m.OrganizationCreate(name=name))

    def organizations(self) -> list[m.Organization]:
        return self._list("organizations", m.Organization)

    def create_project(self, organization: str, name: str) -> m.Project:
        path = f"organizations/{organization}/projects"
        return self._post(path, m.Project, m.ProjectCreate(name=name))

    def projects(self, organization: str) -> list[m.Project]:
        return self._list(f"organizations/{organization}/projects", m.Project)
