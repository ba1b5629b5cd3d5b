"""The command line and the environment of the job."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from periflow_sdk.agent.endpoint import Endpoint
from periflow_sdk.agent.mounts import Layout, Mount
from periflow_sdk.api.jobfile import DockerCommand
from periflow_sdk.api.models import Assignment, Rendezvous
from periflow_sdk.environment import cache_environment

# The rest of the agent's environment may hold what is the server's alone.
_INHERITED = (
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_HOME",
    "CUDA_VISIBLE_DEVICES",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
_INHERITED_PREFIXES = ("LC_", "NVIDIA_", "NCCL_", "GLOO_")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
# Not `eval "$1" || exit`: a `set -e` of the setup would not count there.
_SETUP_THEN_RUN = 'eval "$1"; code=$?; [ $code -eq 0 ] || exit $code; unset code; eval "$2"'


def command_line(command: str | DockerCommand, path: str | None) -> list[str]:
    """One shell for the whole command; a setup that fails ends it with its exit code.

    Args:
        command: As the job file has it.
        path: The job's PATH, where its bash is looked for.
    """
    shell = shutil.which("bash", path=path) or shutil.which("bash") or "/bin/sh"
    if isinstance(command, str):
        return [shell, "-c", command]
    if not command.setup:
        return [shell, "-c", command.run]
    return [shell, "-c", _SETUP_THEN_RUN, shell, command.setup, command.run]


def texts(assignment: Assignment) -> list[str]:
    """Everything of the job file that the shell or the script will read as text."""
    docker = assignment.spec.job_setting.docker
    command = docker.command
    parts = [command] if isinstance(command, str) else [command.setup or "", command.run]
    return [*parts, *assignment.spec.env.values(), *docker.env_var.values()]


def environment(
    assignment: Assignment,
    layout: Layout,
    rendezvous: Rendezvous,
    endpoint: Endpoint,
    run_dir: Path,
    originals: Sequence[Mount],
    restored: str | None,
    user_base: Path,
    *,
    real_paths: bool,
    inherited: Mapping[str, str],
) -> dict[str, str]:
    """The job's environment: the shell's, the job file's, then ours.

    Args:
        originals: The mounted datasets as they lie in the cache.
        restored: Name of the restored checkpoint below the checkpoint folder, "" for the folder.
        user_base: Where `pip install --user` goes when there is no ~/.local to cover.
        real_paths: True where the mount paths do not exist and the job sees the real folders.
        inherited: The agent's own environment.
    """

    def inside(mount: Mount) -> str:
        return str(mount.source) if real_paths else mount.target

    checkpoint = inside(layout.checkpoint)
    ranks = assignment.devices_per_node
    ours = {
        "PERIFLOW_ENABLED": "1",
        "MASTER_ADDR": rendezvous.master_addr,
        "MASTER_PORT": str(rendezvous.master_port),
        "WORLD_SIZE": str(assignment.num_nodes * ranks),
        "NUM_NODES": str(assignment.num_nodes),
        "NODE_RANK": str(assignment.node_rank),
        "NPROC_PER_NODE": str(ranks),
        "PROCESSED_ITERS": str(assignment.restore.step if assignment.restore else 0),
        "CKPT_DIR": checkpoint,
        "PERIFLOW_RUN_DIR": str(run_dir),
        "PERIFLOW_JOB": str(assignment.job),
        "PERIFLOW_URL": endpoint.url,
        "PERIFLOW_TOKEN_FILE": str(endpoint.token_file),
        "PERIFLOW_WORKSPACE_DIR": inside(layout.workspace),
        "PYTHONUNBUFFERED": "1",
        "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": str(max(1, int(assignment.grace_seconds))),
    }
    if assignment.device != "cpu" and assignment.devices:
        ours["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, assignment.devices))
    if layout.data:
        ours["PERIFLOW_DATA_DIR"] = inside(layout.data[0])
        ours["PERIFLOW_DATASETS"] = _datasets(assignment, map(inside, layout.data), originals)
    ours["PERIFLOW_CACHE_DIR"] = str(cache_environment(inherited).folder)
    if limit := inherited.get("PERIFLOW_CACHE_BYTES"):
        ours["PERIFLOW_CACHE_BYTES"] = limit
    if restored is not None:
        ours["PERIFLOW_RESTORED_CHECKPOINT"] = f"{checkpoint}/{restored}".rstrip("/")
    if not (Path.home() / ".local").is_dir():
        # Else `pip install --user` would make that folder in the user's home.
        ours["PYTHONUSERBASE"] = str(user_base)
    docker = assignment.spec.job_setting.docker
    shell = assignment.shell.variables
    return {
        "PATH": inherited.get("PATH", os.defpath),
        **_from_agent(inherited),
        **_threads(assignment),
        **shell,
        **assignment.spec.env,
        **docker.env_var,
        **ours,
    }


def _datasets(assignment: Assignment, paths: Iterable[str], originals: Sequence[Mount]) -> str:
    """What `pf.dataset` finds without asking: see ``DataMount`` of the environment."""
    pairs = zip(assignment.data, assignment.spec.data, strict=True)
    mounted = (mount for mount, section in pairs if section.mode == "copy")
    return json.dumps(
        {
            mount.name: {"path": path, "original": str(original.source), "version": mount.version}
            for mount, path, original in zip(mounted, paths, originals, strict=True)
        }
    )


def _threads(assignment: Assignment) -> dict[str, str]:
    """A job with one core gets one thread: more would spin for cores that others use.

    With several, the launcher divides them (torchrun gives each rank one thread), or the script
    is a single process that uses them all.
    """
    if assignment.device == "cpu" and assignment.devices_per_node == 1:
        return {"OMP_NUM_THREADS": "1"}
    return {}


def _from_agent(variables: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in variables.items()
        if name in _INHERITED or name.lower() in _PROXIES or name.startswith(_INHERITED_PREFIXES)
    }
