"""``pf-server admin storage check`` and ``quota``."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from periflow_server.admin.command import Commands
from periflow_server.admin.target import open_target

if TYPE_CHECKING:
    from periflow_server.admin.target import Target
    from periflow_server.db.soundness import ProjectName
    from periflow_server.services.soundness import Report

_MOST_SHOWN = 5
_QUOTA_EPILOG = """
SIZE is 500GB, 2TB and the like, `none` for no limit, or `default` for what
PERIFLOW_SERVER_PROJECT_QUOTA says. Without SIZE it is shown; without PROJECT, that of all.
"""


def add_commands(commands: Commands) -> None:
    """Add the commands of stored files."""
    storage = commands.add("storage", check, help="check that everything stored is there and whole")
    storage.add_argument("action", choices=("check",))
    storage.add_argument("--quick", action="store_true", help="look at sizes only, read nothing")
    storage.add_argument(
        "--remove-damaged",
        action="store_true",
        help="remove chunks with wrong bytes: the next upload of the same files sends them anew",
    )
    storage.add_argument("--json", action="store_true", help="print one JSON document")
    quota = commands.add("quota", show_or_set_quota, help="show or set how much projects may store")
    quota.formatter_class = argparse.RawDescriptionHelpFormatter
    quota.epilog = _QUOTA_EPILOG
    quota.add_argument("project", nargs="?", metavar="ORGANIZATION/PROJECT")
    quota.add_argument("size", nargs="?", metavar="SIZE")
    quota.add_argument("--json", action="store_true", help="print one JSON document")


def check(options: argparse.Namespace) -> int:
    """Check the store; 1 when something is damaged."""
    from periflow_server.services import soundness
    from periflow_server.storage.opening import open_store

    with open_target(options) as target:
        store = open_store(target.settings)
        report = soundness.check_store(
            target.database, store, quick=options.quick, tell=_tell_progress
        )
        removed = 0
        if options.remove_damaged:
            removed = soundness.remove_damaged_chunks(store, report.damages)
    if options.json:
        print(json.dumps({**asdict(report), "removed": removed}, indent=2))
    else:
        _show(report, removed, quick=options.quick)
    return 1 if report.damages else 0


def _tell_progress(place: str) -> None:
    print(f"Checking {place} ...", file=sys.stderr)


def _show(report: Report, removed: int, *, quick: bool) -> None:
    depth = "sizes only" if quick else "every byte"
    print(f"Checked {report.objects} objects, {report.size / 1e6:.1f} MB ({depth}).")
    if report.unnamed:
        print(
            f"{report.unnamed} chunks, {report.unnamed_size / 1e6:.1f} MB, are of no snapshot: "
            "unfinished uploads, or deleted and not collected yet.",
            file=sys.stderr,
        )
    for each in report.damages:
        place = f" of {each.project}" if each.project else ""
        needed = ", ".join(each.needed_by[:_MOST_SHOWN])
        more = len(each.needed_by) - _MOST_SHOWN
        rest = f" and {more} more" if more > 0 else ""
        print(f"damaged: {each.kind} {each.key}{place}: {each.what}; needed by {needed}{rest}")
    if not report.damages:
        print("Everything is there and whole.")
        return
    count = len(report.damages)
    print("1 object is damaged." if count == 1 else f"{count} objects are damaged.")
    if removed:
        print(f"Removed {removed} of them.", file=sys.stderr)
    first = "Now" if removed else "Run it again with --remove-damaged, then"
    print(
        f"{first} upload the same files again, which sends what is missing; or take the objects "
        "named from a copy of the store.",
        file=sys.stderr,
    )


def show_or_set_quota(options: argparse.Namespace) -> int:
    """Show quotas, or set one."""
    with open_target(options) as target:
        if options.size is not None:
            _set_quota(target, options.project, options.size)
        rows = _quotas(target, options.project)
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    print("\t".join(("Project", "Stored", "Quota")))
    for row in rows:
        print("\t".join((str(row["project"]), _shown(row["used_bytes"]), _limit(row))))
    return 0


def _set_quota(target: Target, name: str, size: str) -> None:
    from periflow_sdk.api.size import parse_size
    from periflow_server.db.project import Project
    from periflow_server.db.soundness import projects
    from periflow_server.services.quota import UNLIMITED

    special = {"none": UNLIMITED, "default": None}
    limit = special[size] if size in special else parse_size(size)
    with target.database.write() as session:
        (found,) = _named(projects(session), name)
        session.get_one(Project, found.id).storage_limit = limit


def _quotas(target: Target, name: str | None) -> list[dict[str, object]]:
    from periflow_server.db.soundness import projects
    from periflow_server.services.quota import storage_usage

    rows = []
    with target.database.read() as session:
        found = projects(session)
        for each in _named(found, name) if name else found:
            usage = storage_usage(session, target.settings, each.id)
            place = f"{each.organization}/{each.name}"
            rows.append({"project": place, **usage.model_dump()})
    return rows


def _named(projects: list[ProjectName], name: str) -> list[ProjectName]:
    from periflow_sdk.errors import NotFoundError

    found = [each for each in projects if f"{each.organization}/{each.name}" == name]
    if not found:
        raise NotFoundError(
            f"There is no project {name}.",
            code="project_not_found",
            hint="Write it as ORGANIZATION/PROJECT; `pf-server admin quota` lists all.",
        )
    return found


def _limit(row: dict[str, object]) -> str:
    return "-" if row["quota_bytes"] is None else _shown(row["quota_bytes"])


def _shown(size: object) -> str:
    from periflow_sdk.api.size import shown_size

    return shown_size(int(str(size)))
