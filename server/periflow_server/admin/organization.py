"""``pf-server admin list-orgs|approve-org|refuse-org``."""

from __future__ import annotations

from periflow_server.admin.command import Commands


def add_commands(commands: Commands) -> None:
    """Add the commands of organizations."""
