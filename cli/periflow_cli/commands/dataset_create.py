"""`pf dataset create`."""

from __future__ import annotations

import click

from periflow_cli.commands.dataset_upload import metadata_option
from periflow_cli.group import Command, Invocation, json_option

_CLOUDS = ("s3", "azure-blob", "gcs")


@click.command("create", cls=Command)
@click.option("-n", "--name", metavar="NAME", help="Name of the dataset.  [required]")
@click.option("-c", "--cloud", type=click.Choice(_CLOUDS), help="Where the bucket is.  [required]")
@click.option(
    "-r", "--region", metavar="REGION", help="Region of the bucket (default: the credential's)."
)
@click.option(
    "-s",
    "--storage-name",
    "storage_names",
    multiple=True,
    metavar="BUCKET",
    help="Name of the bucket or container.  [required]",
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
    metavar="CREDENTIAL",
    help="The credential that opens it: id or name.  [required]",
)
@click.option("--endpoint-url", metavar="URL", help="A service that is not the cloud's own.")
@metadata_option
@click.option("--dry-run", is_flag=True, help="Look into the bucket, and store nothing.")
@json_option
@click.pass_obj
def create_dataset(
    invocation: Invocation,
    /,
    name: str | None,
    cloud: str | None,
    region: str | None,
    storage_names: tuple[str, ...],
    prefix: str,
    credential: str | None,
    endpoint_url: str | None,
    metadata_file: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Link a bucket as a dataset. Nothing is copied; the server looks into it first."""
    from periflow_cli.datasets import read_metadata, refuse_taken_name
    from periflow_cli.moment import size_text
    from periflow_cli.section import Files
    from periflow_sdk.api.models import DatasetCreate, DatasetFile, DatasetLinkCreate

    output = invocation.output
    name, storage_name = _required(name, cloud, storage_names, credential)
    fields = {
        "cloud": cloud,
        "region": region,
        "storage_name": storage_name,
        "prefix": prefix,
        "endpoint_url": endpoint_url,
        "credential_id": credential,
    }
    link = DatasetLinkCreate.model_validate(fields)
    metadata = read_metadata(metadata_file) if metadata_file is not None else {}
    body = DatasetCreate(name=name, link=link, metadata=metadata)
    connection = invocation.connect()
    if dry_run:
        refuse_taken_name(connection, name)
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


def _required(
    name: str | None, cloud: str | None, storage_names: tuple[str, ...], credential: str | None
) -> tuple[str, str]:
    """The name of the dataset and of the bucket, once nothing is missing.

    Raises:
        UsageError: options are missing (all are named), or -s was given for -c.
    """
    from periflow_sdk.errors import UsageError

    clouds = [each for each in storage_names if each in _CLOUDS] if cloud is None else []
    if len(storage_names) == 2 and clouds:
        first, second = storage_names
        bucket = second if first == clouds[0] else first
        raise UsageError(
            "-s was given twice: the kind of cloud is -c, and -s is the name of the bucket.",
            hint=f"Give -c {clouds[0]} -s {bucket}",
        )
    if len(storage_names) > 1:
        raise UsageError("A dataset is linked to one bucket: give -s BUCKET once.")
    given = {
        "-n NAME": name,
        f"-c {'|'.join(_CLOUDS)}": cloud,
        "-s BUCKET": storage_names,
        "-i CREDENTIAL": credential,
    }
    missing = [option for option, value in given.items() if not value]
    if name and storage_names and not missing:
        return name, storage_names[0]
    hint = f"Give -c {clouds[0]} -s BUCKET" if clouds else "pf dataset create --help"
    raise UsageError(f"Missing: {', '.join(missing)}.", hint=hint)
