"""The keys under which a store keeps things: relative paths, the same in every kind of store."""

from __future__ import annotations


def chunk_key(project_id: str, name: str) -> str:
    """The key of a chunk by its hash; with an empty name, the folder of the project's chunks."""
    folder = f"chunks/{project_id}"
    return f"{folder}/{name[:2]}/{name}" if name else folder


def manifest_key(project_id: str, snapshot_id: str) -> str:
    """The key of a snapshot's manifest; with an empty id, the folder of the project's ones."""
    folder = f"manifests/{project_id}"
    return f"{folder}/{snapshot_id}.json" if snapshot_id else folder


def log_key(attempt_id: str, name: str = "") -> str:
    """The key of a piece of an attempt's log; without a name, the folder of all of them."""
    return f"logs/{attempt_id}/{name}" if name else f"logs/{attempt_id}"
