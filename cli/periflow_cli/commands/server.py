"""`pf server start|stop|status|logs`: the local server."""

from __future__ import annotations

import click

from periflow_cli.group import Group, Invocation, json_option


@click.group("server", cls=Group)
def group() -> None:
    """The local server, which pf starts by itself when PERIFLOW_URL is not set."""


@group.command("start")
@json_option
@click.pass_obj
def start_server(invocation: Invocation, /, as_json: bool) -> None:
    """Start the local server, if it does not run already."""
    from periflow_cli.localserver import LocalServer
    from periflow_sdk.environment import home

    output = invocation.output
    local = LocalServer(home())
    before = local.find()
    running = local.ensure(output.note)
    if as_json:
        output.json(dict(vars(running)))
    elif before:
        output.line(f"The local server runs already at {running.url} (pid {running.pid}).")
    else:
        output.line(f"The local server runs at {running.url} (pid {running.pid}).")
    output.hint("pf server status")


@group.command("stop")
@json_option
@click.pass_obj
def stop_server(invocation: Invocation, /, as_json: bool) -> None:
    """Stop the local server. Running jobs go on; the next pf starts a server again."""
    from periflow_cli.localserver import LocalServer
    from periflow_sdk.environment import home

    output = invocation.output
    local = LocalServer(home())
    pid = local.stop()
    jobs = local.running_jobs()
    if as_json:
        output.json({"pid": pid, "running_jobs": jobs})
    elif pid is None:
        output.line("The local server does not run.")
    else:
        output.line(f"Stopped the local server (pid {pid}).")
    if pid is not None and jobs:
        what = "1 job goes" if jobs == 1 else f"{jobs} jobs go"
        output.note(f"{what} on without it and will report when a server runs again.")
        output.hint("pf job list starts the server again")


@group.command("status")
@json_option
@click.pass_obj
def show_status(invocation: Invocation, /, as_json: bool) -> None:
    """Show the local server; exit code 1 when it does not run. Starts nothing."""
    from periflow_cli.localserver import LocalServer
    from periflow_cli.section import Fields
    from periflow_sdk.environment import home

    output = invocation.output
    local = LocalServer(home())
    running = local.find()
    if as_json:
        stopped = {"url": None, "pid": None, "version": None, "data_dir": str(local.folder)}
        output.json(dict(vars(running)) if running else stopped)
    elif running:
        pairs = [
            ("URL", running.url),
            ("PID", str(running.pid)),
            ("Version", running.version),
            ("Data", running.data_dir),
        ]
        output.sections(Fields("Local server", pairs))
    else:
        output.line(f"The local server does not run (data in {local.folder}).")
        output.hint("pf server start")
    if running is None:
        raise click.exceptions.Exit(1)


@group.command("logs")
@click.option("-n", "--num-records", type=click.IntRange(1), default=100, show_default=True)
@json_option
@click.pass_obj
def show_logs(invocation: Invocation, /, num_records: int, as_json: bool) -> None:
    """Print the end of the local server's own log."""
    from periflow_cli.localserver import LocalServer
    from periflow_sdk.environment import home

    output = invocation.output
    local = LocalServer(home())
    lines = local.last_lines(num_records)
    if as_json:
        output.json(lines)
        return
    for line in lines:
        output.line(line)
    if not lines:
        output.note(f"Nothing is in {local.log}.")
