"""`pf job template create`."""

from __future__ import annotations

import click

from periflow_cli.group import Group, Invocation, json_option


@click.group("template", cls=Group)
def group() -> None:
    """Job files to start from."""


@group.command("create")
@click.option("-s", "--script", metavar="FILE", help="Your training script.")
@click.option(
    "-o",
    "--output",
    "--save",
    "--save-path",
    "path",
    metavar="FILE",
    help="Where to write (default: pf-template.yml beside the script).",
)
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@json_option
@click.pass_obj
def create_template(
    invocation: Invocation, /, script: str | None, path: str | None, force: bool, as_json: bool
) -> None:
    """Write a commented job file for a script, ready to run on this machine."""
    import os
    import shlex
    from pathlib import Path

    from periflow_cli.template import job_file
    from periflow_sdk.errors import ConflictError, UsageError

    output = invocation.output
    source = Path(script or output.ask("Training script", "--script FILE"))
    if source.suffix in (".yml", ".yaml"):
        raise UsageError(
            f"{source} is no script: -s names the training script.",
            hint=f"pf job template create -s train.py -o {shlex.quote(str(source))}",
        )
    if not source.is_file():
        raise UsageError(f"There is no script {source}.")
    target = Path(path) if path else source.parent / "pf-template.yml"
    if target.exists() and not force:
        raise ConflictError(
            f"{target} exists already.",
            code="template_exists",
            hint="Write elsewhere with -o FILE, or replace it with --force.",
        )
    folder = os.path.relpath(source.parent)
    line = shlex.join(["pf", "job", "run", "-f", str(target), "-d", folder])
    target.write_text(job_file(source.resolve(), line), encoding="utf-8")
    if as_json:
        output.json({"path": str(target.absolute()), "command": line})
        return
    output.line(f"Wrote {target}. Run it with:")
    output.line(line)
