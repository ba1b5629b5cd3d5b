"""`python -m periflow_sdk.agent NODE_DIR`: the agent of one node of one attempt."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from periflow_sdk.agent.endpoint import Endpoint, GrantedEndpoint
from periflow_sdk.agent.folder import NodeFolder


def main(arguments: list[str]) -> int:
    """Run the supervisor (or, with --worker, the worker it starts); the exit code."""
    parser = argparse.ArgumentParser(prog="python -m periflow_sdk.agent")
    parser.add_argument("folder", type=Path, metavar="NODE_DIR")
    parser.add_argument("--worker", type=int, metavar="SUPERVISOR", help=argparse.SUPPRESS)
    parser.add_argument("--urgent", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    folder = NodeFolder.open(options.folder)
    # httpx loads the libraries of its own command line where they are: a third of its import.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    logging.basicConfig(
        format="%(asctime)s %(processName)s[%(process)d] %(levelname)s %(message)s",
        level=logging.INFO,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if options.worker is not None and folder.attached is not None:
        return _work(folder, GrantedEndpoint(folder), options)
    url = os.environ.get("PERIFLOW_URL", "")
    token = Path(os.environ.get("PERIFLOW_TOKEN_FILE") or folder / "token")
    if not url or not token.is_file():
        parser.error("PERIFLOW_URL and PERIFLOW_TOKEN_FILE must say where the control plane is")
    key = os.environ.get("PERIFLOW_KEY_FILE")
    endpoint = Endpoint(url, token, Path(key) if key else None)
    if options.worker is not None:
        return _work(folder, endpoint, options)
    from periflow_sdk.agent.supervisor import run_supervisor

    return run_supervisor(folder, endpoint)


def _work(
    folder: NodeFolder, endpoint: Endpoint | GrantedEndpoint, options: argparse.Namespace
) -> int:
    from periflow_sdk.agent.worker import run_worker

    return run_worker(folder, endpoint.connect, options.worker, is_urgent=options.urgent)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
