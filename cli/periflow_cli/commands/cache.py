"""`pf cache list|clear`."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from periflow_cli.group import Group, Invocation, json_option


@click.group("cache", cls=Group)
def group() -> None:
    """Datasets that are kept on this machine for all its jobs and scripts."""


@group.command("list")
@json_option
@click.pass_obj
def list_units(invocation: Invocation, /, as_json: bool) -> None:
    """List what is kept, the longest unused last, and how much there may be.

    PERIFLOW_CACHE_DIR says where it lies, PERIFLOW_CACHE_BYTES (200G) how large it may grow.
    """
    from periflow_cli.datasets import count_text
    from periflow_cli.moment import ago, size_text
    from periflow_sdk.data.cache import node_cache

    output, cache = invocation.output, node_cache()
    units = sorted(cache.units(), key=lambda unit: -unit.used_at)
    folders = [unit for unit in units if unit.about]
    singles = [unit for unit in units if not unit.about]
    used = sum(unit.size for unit in units)
    if as_json:
        output.json(
            {
                "folder": str(cache.folder),
                "size": used,
                "capacity": cache.capacity_bytes,
                "datasets": [
                    {"name": unit.about, "size": unit.size, "used_at": _moment(unit.used_at)}
                    for unit in folders
                ],
                "single_files": {"count": len(singles), "size": sum(u.size for u in singles)},
            }
        )
        return
    rows = [(u.about, size_text(u.size), ago(_time(u.used_at))) for u in folders]
    if singles:
        size = size_text(sum(unit.size for unit in singles))
        rows.append((f"{count_text(len(singles))} and parts", size, ago(_time(singles[0].used_at))))
    output.table(("Dataset", "Size", "Last Used"), rows)
    limit = size_text(cache.capacity_bytes)
    output.note(f"{size_text(used)} in {cache.folder}, which may grow to {limit}.")


@group.command("clear")
@json_option
@click.pass_obj
def clear_cache(invocation: Invocation, /, as_json: bool) -> None:
    """Remove what no job or script uses just now; it is downloaded again when it is needed."""
    from periflow_cli.moment import size_text
    from periflow_sdk.data.cache import node_cache

    cache = node_cache()
    freed = cache.clear()
    left = sum(unit.size for unit in cache.units())
    if as_json:
        invocation.output.json({"freed": freed, "left": left})
        return
    in_use = f" {size_text(left)} are in use." if left else ""
    invocation.output.note(f"Freed {size_text(freed)} in {cache.folder}.{in_use}")


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _moment(seconds: float) -> str:
    from periflow_cli.moment import rfc3339

    return rfc3339(_time(seconds))
