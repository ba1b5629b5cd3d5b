"""How the command is run on its node: in a root of its own, in bubblewrap, or plainly."""

from periflow_sdk.agent.runtimes.choose import Choice, Runtime, begin_choice

__all__ = ["Choice", "Runtime", "begin_choice"]
