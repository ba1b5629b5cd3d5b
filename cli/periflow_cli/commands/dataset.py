"""`pf dataset list|view|edit|delete`, and the group with the commands that move data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from periflow_cli.commands.dataset_create import create_dataset
from periflow_cli.commands.dataset_download import download_dataset
from periflow_cli.commands.dataset_upload import metadata_option, upload_dataset
from periflow_cli.commands.dataset_view import view_dataset
from periflow_cli.group import Group, Invocation, deletion_options, json_option

if TYPE_CHECKING:
    from periflow_sdk.api.models import Dataset


@click.group("dataset", cls=Group)
def group() -> None:
    """Datasets: training data, uploaded once or linked where it lies, and mounted into jobs."""


group.add_command(upload_dataset)
group.add_command(create_dataset)


@group.command("list")
@json_option
@click.pass_obj
def list_datasets(invocation: Invocation, /, as_json: bool) -> None:
    """List the datasets of the project."""
    from periflow_cli.datasets import overview

    output = invocation.output
    connection = invocation.connect()
    datasets = connection.client.datasets(connection.project.id)
    if as_json:
        output.json(datasets)
        return
    rows = [[value for _, value in overview(each)] for each in datasets]
    output.table(("Name", "Cloud", "Region", "Storage Name", "Active"), rows)
    output.hint("pf dataset view NAME" if datasets else "pf dataset upload -n NAME -p PATH")


group.add_command(view_dataset)


@group.command("edit")
@click.argument("name")
@click.option("-n", "--name", "new_name", metavar="NAME", help="Another name.")
@metadata_option
@click.option(
    "-i",
    "--credential-id",
    "credential",
    metavar="CREDENTIAL",
    help="Another credential (id or name) that opens the bucket of a linked dataset.",
)
@json_option
@click.pass_obj
def edit_dataset(
    invocation: Invocation,
    /,
    name: str,
    new_name: str | None,
    metadata_file: str | None,
    credential: str | None,
    as_json: bool,
) -> None:
    """Give a dataset another name, other metadata or another credential."""
    from periflow_cli.datasets import find_dataset, read_metadata
    from periflow_sdk.api.models import DatasetUpdate
    from periflow_sdk.errors import UsageError

    fields = {
        "name": new_name,
        "metadata": read_metadata(metadata_file) if metadata_file is not None else None,
        "credential_id": credential,
    }
    given = {key: value for key, value in fields.items() if value is not None}
    if not given:
        raise UsageError("Nothing to change: give -n NAME, -f FILE or -i CREDENTIAL.")
    body = DatasetUpdate.model_validate(given)
    output = invocation.output
    connection = invocation.connect()
    found = find_dataset(connection, name)
    dataset = connection.client.update_dataset(connection.project.id, found.id, body)
    if as_json:
        output.json(dataset)
    else:
        renamed = f", which was {found.name}" if found.name != dataset.name else ""
        output.line(f"Changed dataset {dataset.name}{renamed}.")
    output.hint(f"pf dataset view {dataset.name}")


@group.command("delete")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@deletion_options
@json_option
@click.pass_obj
def delete_datasets(
    invocation: Invocation, /, names: tuple[str, ...], yes: bool, dry_run: bool, as_json: bool
) -> None:
    """Delete datasets; which jobs read them is shown first.

    The files of a linked dataset stay in its bucket.
    """
    from periflow_cli.datasets import amount_of, find_dataset

    output = invocation.output
    connection = invocation.connect()
    datasets = [find_dataset(connection, name) for name in names]
    lines = []
    for each in datasets:
        lines += [f"{each.name}: {amount_of(each)}", *([_readers(each)] if each.used_by else ())]
    question = f"Delete {', '.join(each.name for each in datasets)}?"
    is_wanted = output.confirm_deletion(lines, question, yes=yes, dry_run=dry_run, as_json=as_json)
    for each in datasets if is_wanted else ():
        connection.client.delete_dataset(connection.project.id, each.id, force=True)
        if not as_json:
            output.line(f"Deleted dataset {each.name}.")
    if as_json:
        output.json(datasets)
    output.hint_deletion("dataset", names, dry_run=dry_run)


def _readers(dataset: Dataset) -> str:
    one = len(dataset.used_by) == 1
    jobs = f"job{'' if one else 's'} {', '.join(map(str, dataset.used_by))}"
    if dataset.snapshot_id is None:
        return f"Warning: {jobs} will lose it: it is only linked."
    return f"It is read by {jobs}, which {'keeps what it has' if one else 'keep what they have'}."


group.add_command(download_dataset)
