"""`pf credential create|list|view|update|delete`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from periflow_cli.credential_field import (
    FIELDS,
    all_values,
    asked_values,
    exposed,
    given_values,
    options_of,
)
from periflow_cli.group import (
    Command,
    Group,
    Invocation,
    deletion_options,
    json_option,
    switches,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from periflow_cli.connection import Connection
    from periflow_cli.output import Output
    from periflow_sdk.api.calls.credential import CredentialPlace
    from periflow_sdk.api.models import Credential

_SAFER = (
    "A secret in the command line is seen by everybody on this machine (`ps`) and stays in the "
    "shell's history. Leave it out to be asked for it, pipe it to its --...-stdin, or set its "
    "variable."
)


def _share_option(function: Callable[..., Any]) -> Callable[..., Any]:
    help = "Shared with the whole organization, instead of the project's."
    return click.option("-g", "--group", "shared", is_flag=True, help=help)(function)


def _verify_option(function: Callable[..., Any]) -> Callable[..., Any]:
    help = "Do not ask the service whether it takes the credential."
    return click.option("--no-verify", is_flag=True, help=help)(function)


def _name_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("-n", "--name", metavar="NAME", help="Name of the credential.")(function)


@click.group("credential", cls=Group)
def group() -> None:
    """Credentials: passwords and keys of other services, for the jobs that name them."""


class _CreateGroup(Group):
    """A group that is a command as well: without a type it makes a docker credential."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, no_args_is_help=False, invoke_without_command=True, **kwargs)
        self.params.extend(switches())


@group.group("create", cls=_CreateGroup, epilog=_SAFER, subcommand_metavar="[TYPE] ...")
@_name_option
@options_of("docker")
@_share_option
@_verify_option
@json_option
@click.pass_context
def create(ctx: click.Context, /, **options: Any) -> None:
    """Store a credential and print its id; without a type, that of a docker registry.

    `pf credential create TYPE --help` shows the options of a type.
    """
    given = [name for name, value in options.items() if value]
    if ctx.invoked_subcommand is not None:
        if given:
            right = f"pf credential create {ctx.invoked_subcommand} -n NAME ..."
            raise click.UsageError(f"Put the type first: `{right}`.", ctx)
        return
    invocation = ctx.find_object(Invocation)
    assert invocation is not None
    type = "docker"
    if not set(given) - {"shared", "no_verify", "as_json"}:
        ways = f"a type: pf credential create {'|'.join(FIELDS)} -n NAME ..."
        type = invocation.output.ask("Type", ways, complaint=_type_complaint)
    _create(invocation, type, options)


def _type_complaint(answer: str) -> str:
    return "" if answer in FIELDS else f"There is: {', '.join(FIELDS)}."


def _add_type(type: str, help: str) -> None:
    @create.command(type, cls=Command, help=help, epilog=_SAFER)
    @_name_option
    @options_of(type)
    @_share_option
    @_verify_option
    @json_option
    @click.pass_obj
    def create_one(invocation: Invocation, /, **options: Any) -> None:
        _create(invocation, type, options)


for _type, _words in (
    ("docker", "Store an account of a registry of images."),
    ("s3", "Store a key of AWS S3."),
    ("azure-blob", "Store a key of an Azure storage account."),
    ("gcs", "Store the key of a Google Cloud service account."),
    ("wandb", "Store an API key of Weights & Biases."),
    ("slack", "Store the token of a Slack bot, or an incoming webhook."),
):
    _add_type(_type, _words)


def _create(invocation: Invocation, type: Any, options: dict[str, Any]) -> None:
    from periflow_sdk.api import models as m

    output = invocation.output
    connection = invocation.connect()
    place = _place(connection, options["shared"])
    name = options["name"] or output.ask("Name", "-n NAME")
    _warn(output, type, options)
    values = all_values(type, options, output)
    for field in FIELDS[type]:
        if values.get(field.name) == "":
            raise click.UsageError(f"{field.option} may not be empty.")
    body = m.CREDENTIAL_BODIES[type].model_validate({"name": name, **values})
    verify = not options.get("no_verify")
    credential = connection.client.create_credential(place, body, verify=verify)
    if options["as_json"]:
        output.json(credential)
    else:
        output.line(credential.id)
    where = "the organization" if options["shared"] else f"project {connection.project.name}"
    output.note(f"Created the {type} credential {credential.name} in {where}{_verdict(credential)}")
    output.hint(_usage(credential))


def _verdict(credential: Credential) -> str:
    if credential.type == "docker":
        return "; its registry is first asked when a job needs an image."
    return "; its service takes it." if credential.verified_at else "; not verified."


def _warn(output: Output, type: str, options: dict[str, Any]) -> None:
    for field in exposed(type, options):
        output.note(
            f"Warning: {field.option} stood in the command line, where `ps` and the shell's "
            f"history show it. Next time use {field.stdin_option} or {field.variable}."
        )


def _usage(credential: Credential) -> str:
    places = {
        "docker": "job_setting.docker",
        "wandb": "plugin.wandb",
        "slack": "plugin.slack",
    }
    if credential.type in places:
        return f"in a job file, {places[credential.type]}: {{credential: {credential.name}}}"
    return f"pf credential view {credential.name}"


@group.command("list")
@click.option("-t", "--type", type=click.Choice(tuple(FIELDS)), help="Of this type only.")
@_share_option
@json_option
@click.pass_obj
def list_credentials(invocation: Invocation, /, type: Any, shared: bool, as_json: bool) -> None:
    """List the credentials of the project and the shared ones; with -g the shared ones alone."""
    from periflow_cli.moment import local_time

    output = invocation.output
    connection = invocation.connect()
    credentials = connection.client.credentials(_place(connection, shared), type)
    if as_json:
        output.json(credentials)
        return
    rows = [
        (each.id, each.name, each.type, each.scope, each.created_by, local_time(each.created_at))
        for each in credentials
    ]
    columns = ("ID", "Name", "Type", "Scope", "Created by", "Created At")
    output.table(columns, rows, spare=("Created by", "Created At"))
    output.hint("pf credential view NAME" if rows else "pf credential create --help")


@group.command("view")
@click.argument("name")
@_share_option
@json_option
@click.pass_obj
def view_credential(invocation: Invocation, /, name: str, shared: bool, as_json: bool) -> None:
    """Show a credential and what uses it; never what is secret in it."""
    output = invocation.output
    credential = find_credential(invocation.connect(), name, shared)
    if as_json:
        output.json(credential)
        return
    _show(output, credential)


@group.command("update", epilog=_SAFER)
@click.argument("credential", metavar="NAME")
@click.option("-n", "--name", "new_name", metavar="NEW", help="Another name.")
@options_of(*FIELDS)
@_share_option
@_verify_option
@json_option
@click.pass_obj
def update_credential(
    invocation: Invocation,
    /,
    credential: str,
    new_name: str | None,
    shared: bool,
    no_verify: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Give a credential another name or other values. Its id stays, so jobs go on with it."""
    from periflow_sdk.api.models import CredentialUpdate

    output = invocation.output
    connection = invocation.connect()
    found = find_credential(connection, credential, shared)
    values = given_values(found.type, options)
    _refuse_others(found.type, options, values)
    if not values and new_name is None:
        if not output.interactive:
            names = ", ".join(field.option for field in FIELDS[found.type])
            raise click.UsageError(f"Say what to change: --name, {names}.")
        values = asked_values(found.type, output)
    document = {"values": values, **({"name": new_name} if new_name else {})}
    place = _place(connection, found.scope == "organization")
    changed = connection.client.update_credential(
        place, found.id, CredentialUpdate.model_validate(document), verify=not no_verify
    )
    if as_json:
        output.json(changed)
    else:
        output.line(f"Updated credential {changed.name}.")
    _warn(output, found.type, options)


@group.command("delete")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@_share_option
@deletion_options
@json_option
@click.pass_obj
def delete_credentials(
    invocation: Invocation,
    /,
    names: tuple[str, ...],
    shared: bool,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete credentials; what uses them is shown first, and fails then."""
    output = invocation.output
    connection = invocation.connect()
    found = [find_credential(connection, name, shared) for name in names]
    lines = [
        f"{each.name} ({each.type}, {each.scope}) is used by {use}."
        for each in found
        for use in _uses(each) or ["nothing"]
    ]
    question = f"Delete {', '.join(each.name for each in found)}?"
    is_wanted = output.confirm_deletion(lines, question, yes=yes, dry_run=dry_run, as_json=as_json)
    for each in found if is_wanted else ():
        place = _place(connection, each.scope == "organization")
        connection.client.delete_credential(place, each.id, force=True)
        if not as_json:
            output.line(f"Deleted credential {each.name}.")
    if as_json:
        output.json(found)
    output.hint_deletion("credential", [*(["-g"] if shared else []), *names], dry_run=dry_run)


def find_credential(connection: Connection, name: str, shared: bool = False) -> Credential:
    """The credential of a name or id, in the project's sight or among the shared ones.

    Raises:
        NotFoundError: with the nearest names.
    """
    from periflow_cli.names import known

    client, place = connection.client, _place(connection, shared)
    where = connection.organization if shared else connection.project
    with known(
        "credential",
        name,
        lambda: [each.name for each in client.credentials(place)],
        "pf credential list",
        where=f"in {where.name}",
    ):
        return client.credential(place, name)


def _place(connection: Connection, shared: bool) -> CredentialPlace:
    from periflow_sdk.api.calls.credential import CredentialPlace

    if shared:
        return CredentialPlace.of_organization(connection.organization.id)
    return CredentialPlace.of_project(connection.project.id)


def _refuse_others(type: str, options: dict[str, Any], values: dict[str, str]) -> None:
    given = sum(1 for value in options.values() if value)
    if given > len(values):
        names = ", ".join(field.option for field in FIELDS[type])
        raise click.UsageError(f"A credential of type {type} has {names}, and nothing else.")


def _show(output: Output, credential: Credential) -> None:
    from periflow_cli.moment import local_time
    from periflow_cli.section import Fields, Lines

    def _moment(moment: datetime | None) -> str:
        return local_time(moment) if moment else "-"

    pairs = [
        ("ID", credential.id),
        ("Name", credential.name),
        ("Type", credential.type),
        ("Scope", credential.scope),
        *((name.replace("_", " "), value) for name, value in credential.details.items()),
        ("Created by", credential.created_by),
        ("Created At", local_time(credential.created_at)),
        ("Verified At", _moment(credential.verified_at)),
        ("Last used", _moment(credential.last_used_at)),
    ]
    output.sections(Fields("Overview", pairs), Lines("Used by", _uses(credential) or ["nothing"]))


def _uses(credential: Credential) -> list[str]:
    named = [f"{use.kind} {use.name}" for use in credential.used_by if use.name]
    hidden = len(credential.used_by) - len(named)
    return [*named, *([f"{hidden} more in other projects"] if hidden else [])]
