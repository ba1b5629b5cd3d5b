"""Projects and who works in them; ``organization`` and ``project`` are ids."""

from __future__ import annotations

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.transport import Transport, path_segment


class ProjectCalls(Transport):
    """Projects and who works in them; ``organization`` and ``project`` are ids."""

    def create_project(self, organization: str, name: str) -> m.Project:
        path = f"organizations/{organization}/projects"
        return self._post(path, m.Project, m.ProjectCreate(name=name))

    def projects(self, organization: str) -> list[m.Project]:
        return self._list(f"organizations/{organization}/projects", m.Project)

    def delete_project(self, project: str) -> None:
        self._delete(f"projects/{project}")

    def project_members(self, project: str) -> list[m.ProjectMember]:
        return self._list(f"projects/{project}/members", m.ProjectMember)

    def add_project_member(self, project: str, username: str, role: str) -> m.ProjectMember:
        body = m.ProjectMemberAdd(username=username, role=role)
        return self._post(f"projects/{project}/members", m.ProjectMember, body)

    def set_project_role(self, project: str, username: str, role: str) -> m.ProjectMember:
        path = f"projects/{project}/members/{path_segment(username)}"
        return self._patch(path, m.ProjectMember, m.RoleChange(role=role))

    def remove_project_member(self, project: str, username: str) -> None:
        self._delete(f"projects/{project}/members/{path_segment(username)}")

    def permissions(self) -> list[m.Permission]:
        """What each role may do."""
        return self._list("permissions", m.Permission)
