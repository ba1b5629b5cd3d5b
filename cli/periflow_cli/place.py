"""The organization and project to work in, where there is only one to choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from periflow_cli.profile import Place, Profile

if TYPE_CHECKING:
    from periflow_cli.connection import Connection


def settle(connection: Connection) -> str | None:
    """Choose the only organization, and the only project in it, unless something is chosen.

    Returns:
        What was chosen, in words; None if nothing was.
    """
    profile, key = connection.profile, connection.key
    if profile.place("organization", key) is not None:
        return None
    organizations = connection.client.organizations()
    if len(organizations) != 1 or organizations[0].status != "active":
        return None
    (organization,) = organizations
    projects = connection.client.projects(organization.id)
    project = Place(projects[0].id, projects[0].name) if len(projects) == 1 else None
    profile.choose(key, Place(organization.id, organization.name), project)
    if project is None:
        return f"organization {organization.name}"
    return f"organization {organization.name}, project {project.name}"


def next_step(profile: Profile, key: str) -> str:
    """What to do after a login, as a command."""
    if profile.place("organization", key) is None:
        return "pf org list, then pf org switch NAME"
    if profile.place("project", key) is None:
        return "pf project list, then pf project switch NAME"
    return "pf job list"
