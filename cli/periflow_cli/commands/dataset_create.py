"""`pf dataset create`."""

from __future__ import annotations

import click

from periflow_cli.commands.dataset_upload import metadata_option
from periflow_cli.group import Command, Invocation, json_option

_CLOUDS = ("s3", "azure-blob", "gcs")


@click.command("create", cls=Command)
@click.option("-n", "--name", required=True, metavar="NAME", help="Name of the dataset.")
@click.option("-c", "--cloud", type=click.Choice(_CLOUDS), help="Where the bucket is.")
@click.option(
    "-r", "--region", metavar="REGION", help="Region of the bucket (default: the credential's)."
)
@click.option(
    "-s",
    "--storage-name",
    "storage_names",
    multiple=True,
    metavar="BUCKET",
    help="Name of the bucket or container.",
)
@click.option(
    "-p",
    "--path-prefix",
    "--prefix",
    "prefix",
    default="",
    metavar="PREFIX",
    help="Link only what is below this folder of the bucket.",
)
@click.option(
    "-i",
    "--credential-id",
    "credential",
    required=True,
    metavar="CREDENTIAL",
    help="The credential that opens it: id or name.",
)
@click.option("--endpoint-url", metavar="URL", help="A service that is not the cloud's own.")
@metadata_option
@click.option("--dry-run", is_flag=True, help="Look into the bucket, and store nothing.")
@json_option
@click.pass_obj
def create_dataset(
    invocation: Invocation,
    /,
    name: str,
    cloud: str | None,
    region: str | None,
    storage_names: tuple[str, ...],
    prefix: str,
    credential: str,
    endpoint_url: str | None,
    metadata_file: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Link a bucket as a dataset. Nothing is copied; the server looks into it first."""
    from periflow_cli.datasets import read_metadata
    from periflow_cli.moment import size_text
    from periflow_cli.section import Files
    from periflow_sdk.api.models import DatasetCreate, DatasetFile, DatasetLinkCreate

    output = invocation.output
    fields = {
        "cloud": cloud,
        "region": region,
        "storage_name": _storage_name(cloud, storage_names),
        "prefix": prefix,
        "endpoint_url": endpoint_url,
        "credential_id": credential,
    }
    link = DatasetLinkCreate.model_validate(fields)
    metadata = read_metadata(metadata_file) if metadata_file is not None else {}
    body = DatasetCreate(name=name, link=link, metadata=metadata)
    connection = invocation.connect()
    if dry_run:
        page = connection.client.check_link(connection.project.id, link)
        files = [each for each in page.items if isinstance(each, DatasetFile)]
        if as_json:
            output.json({"name": name, "files": [each.model_dump(mode="json") for each in files]})
            return
        output.note(
            f"Would link {link.storage_name} as dataset {name}; its first files:"
            if files
            else f"Would link {link.storage_name} as dataset {name}; no files are there now."
        )
        output.sections(Files("Files", [(each.path, size_text(each.size)) for each in files]))
        return
    dataset = connection.client.create_dataset(connection.project.id, body)
    if as_json:
        output.json(dataset)
    else:
        output.line(f"Linked dataset {dataset.name} to {dataset.cloud} {dataset.storage_name}.")
    page = connection.client.dataset_page(connection.project.id, name, recursive=True, limit=20)
    if not page.items and page.next_cursor is None:
        below = f" below {dataset.prefix}/" if dataset.prefix else ""
        output.note(f"Warning: {dataset.storage_name} has no files{below} now.")
    output.hint(f"pf dataset view {dataset.name}")


def _storage_name(cloud: str | None, names: tuple[str, ...]) -> str:
    """The bucket, once it is clear which option was meant for what.

    Raises:
        UsageError: -c is missing, or -s was given for it.
    """
    from periflow_sdk.errors import UsageError

    clouds = [name for name in names if name in _CLOUDS]
    if len(names) == 2 and clouds and cloud is None:
        bucket = names[1] if names[0] == clouds[0] else names[0]
        raise UsageError(
            "-s was given twice: the kind of cloud is -c, and -s is the name of the bucket.",
            hint=f"Give -c {clouds[0]} -s {bucket}",
        )
    if len(names) > 1:
        raise UsageError("A dataset is linked to one bucket: give -s BUCKET once.")
    if cloud is None:
        hint = f"Give -c {clouds[0]} -s BUCKET" if clouds else f"Give -c {'|'.join(_CLOUDS)}"
        raise UsageError("The kind of cloud is missing: -c CLOUD.", hint=hint)
    if not names:
        raise UsageError("The bucket is missing: -s BUCKET.")
    return names[0]
