"""What a job runs on, as `pf job view --system` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from periflow_cli.moment import size_text

if TYPE_CHECKING:
    from periflow_cli.connection import Connection
    from periflow_cli.output import Output
    from periflow_cli.section import Section
    from periflow_sdk.api.models import GitState, JobDetail, NodeState, NodeSystem

_MEMORY, _CPU = "system/memory_bytes", "system/cpu_percent"


def show_system(output: Output, connection: Connection, job: JobDetail) -> None:
    """Print the machines of the newest attempt, the packages its Python sees, and the code."""
    from periflow_cli.section import Fields, Lines

    system = job.system
    if system is None:
        output.note(f"Nothing is known yet of what job {job.number} runs on.")
        return
    sections: list[Section] = []
    for node in system.nodes:
        pairs = [*_machine(node), *_measured(connection, job, node.node)]
        if len(job.nodes) > 1:
            pairs += _state(job.nodes[node.node])
        sections.append(Fields(f"Node {node.node} of attempt {system.attempt}", pairs))
        if node.packages:
            lines = [f"{name}=={version}" for name, version in node.packages.items()]
            sections.append(Lines(f"Packages of node {node.node}", lines))
    if system.git is not None:
        sections.append(Fields("Code", _code(system.git)))
    output.sections(*sections)


def _machine(node: NodeSystem) -> list[tuple[str, str]]:
    gpus = ", ".join(f"{gpu.name} ({size_text(gpu.memory_bytes)})" for gpu in node.gpus)
    return [
        ("Hostname", node.hostname),
        ("OS", node.os),
        ("CPU", f"{node.cpu} ({node.cpu_count} cores)"),
        ("Memory", size_text(node.memory_bytes)),
        ("GPU", gpus or "-"),
        ("Python", node.python or "-"),
    ]


def _state(node: NodeState) -> list[tuple[str, str]]:
    """Which of several nodes it is, and how it does."""
    from periflow_cli.moment import local_time

    heard = local_time(node.heartbeat_at) if node.heartbeat_at else "-"
    return [
        ("Address", node.address or "-"),
        ("Devices", ", ".join(map(str, node.devices)) or "-"),
        ("State", node.outcome or node.phase or "-"),
        ("Last heard of", heard),
    ]


def _measured(connection: Connection, job: JobDetail, node: int) -> list[tuple[str, str]]:
    """The largest values that the agent of the node has seen."""
    from periflow_sdk.errors import NotFoundError

    found = {}
    for name in (_MEMORY, _CPU):
        try:
            series = connection.client.metric_series(
                connection.project.id, job.number, name, rank=-1 - node, max_points=1000
            )
        except NotFoundError:
            continue
        numbers = [value for value in series.values if isinstance(value, float)]
        found[name] = max(numbers, default=0.0)
    pairs = []
    if _MEMORY in found:
        pairs.append(("Memory used", f"{size_text(int(found[_MEMORY]))} at most"))
    if _CPU in found:
        pairs.append(("CPU used", f"{found[_CPU]:.0f} % of a core at most"))
    return pairs


def _code(git: GitState) -> list[tuple[str, str]]:
    changed = f"changed, {size_text(git.diff_bytes)} not committed" if git.dirty else "as committed"
    return [("Commit", git.commit), ("Branch", git.branch or "-"), ("State", changed)]
