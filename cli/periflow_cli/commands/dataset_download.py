"""`pf dataset download`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from periflow_cli.group import Command, Invocation, json_option

if TYPE_CHECKING:
    from pathlib import Path

    from periflow_cli.connection import Connection
    from periflow_cli.transfer import Bar
    from periflow_sdk.api.models import Dataset


@click.command("download", cls=Command)
@click.argument("name")
@click.option(
    "-d",
    "--save-directory",
    "folder",
    metavar="DIR",
    help="Where the files land (default: ./NAME).",
)
@click.option("--version", type=click.IntRange(min=1), metavar="N", help="As it once was.")
@click.option("--force", is_flag=True, help="Replace files that are there already.")
@click.option("--dry-run", is_flag=True, help="Show what would be fetched, and fetch nothing.")
@json_option
@click.pass_obj
def download_dataset(
    invocation: Invocation,
    /,
    name: str,
    folder: str | None,
    version: int | None,
    force: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Download a dataset. Interrupted and run again, it fetches only the rest."""
    import shlex
    from pathlib import Path

    from periflow_cli.datasets import amount, find_dataset
    from periflow_cli.transfer import Bar

    output = invocation.output
    connection = invocation.connect()
    dataset = find_dataset(connection, name)
    target = Path(folder or dataset.name)
    fetch = _fetch_linked if dataset.snapshot_id is None else _fetch_kept
    try:
        with Bar("Downloading", dataset.size or 0) as bar:
            size, count = fetch(connection, dataset, target, bar, version, force, dry_run)
    except KeyboardInterrupt:
        command = ["pf", "dataset", "download", dataset.name, "-d", str(target)]
        command += ["--version", str(version)] if version is not None else []
        output.note(f"Interrupted. This fetches only the rest: {shlex.join(command)}")
        raise
    how = amount(size, count) if dry_run else f"{amount(size, count)} {bar.summary()}"
    if as_json:
        told = {"size": size, "file_count": count, "version": version or dataset.version}
        place = {"path": str(target.absolute()), "dry_run": dry_run}
        output.json({**dataset.model_dump(mode="json"), **told, **place})
    elif dry_run:
        output.line(f"Would download {dataset.name} to {target}: {how}.")
    else:
        output.line(f"Dataset {dataset.name} is in {target}: {how}.")
    if not dry_run:
        output.hint(f"ls {shlex.quote(str(target))}")


def _fetch_kept(
    connection: Connection,
    dataset: Dataset,
    target: Path,
    bar: Bar,
    version: int | None,
    force: bool,
    dry_run: bool,
) -> tuple[int, int]:
    from periflow_cli.datasets import snapshot_of
    from periflow_cli.download import Download

    snapshot_id = snapshot_of(connection, dataset, version)
    download = Download(connection, snapshot_id, target, force=force)
    manifest = download.check()
    if not dry_run:
        download.run(bar)
    return manifest.size, manifest.file_count


def _fetch_linked(
    connection: Connection,
    dataset: Dataset,
    target: Path,
    bar: Bar,
    version: int | None,
    force: bool,
    dry_run: bool,
) -> tuple[int, int]:
    from periflow_cli.datasets import refuse_version
    from periflow_cli.fetch import Fetch

    refuse_version(dataset, version)
    fetch = Fetch(connection, dataset, target, force=force)
    fetch.check()
    if dry_run:
        fetch.measure()
    else:
        fetch.run(bar)
    return fetch.size, fetch.count
