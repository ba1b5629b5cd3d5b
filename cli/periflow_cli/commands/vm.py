"""`pf vm list`."""

from __future__ import annotations

import click

from periflow_cli.group import Group, Invocation, json_option


@click.group("vm", cls=Group)
def group() -> None:
    """VM types: the machines that jobs can run on."""


@group.command("list")
@json_option
@click.pass_obj
def list_vms(invocation: Invocation, /, as_json: bool) -> None:
    """List the VM types; quota is what is free of what there is, in devices."""
    output = invocation.output
    connection = invocation.connect()
    vms = connection.client.vm_types(connection.project.id)
    if as_json:
        output.json(vms)
        return
    rows = [
        (each.vm, each.cloud, each.region, each.device, f"{each.available} / {each.quota}")
        for each in vms
    ]
    output.table(("VM", "Cloud", "Region", "Device", "Quota"), rows)
    output.hint("pf job run -f FILE -d DIR --vm VM --num-devices N")
