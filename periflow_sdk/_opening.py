"""How a run starts: in the job this process belongs to, or locally."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import _control as control_words
from ._checkpoints import Checkpoints
from ._console import say
from ._journal import Journal, LocalLog
from ._memory_stage import WORKER_LOCK, MemoryStage
from ._restart import Choice, resume_point
from ._resume import Candidate, newest_whole
from ._session import Session
from ._staging import CheckpointFolder
from .environment import (
    JobEnvironment,
    attach_environment,
    home,
    job_environment,
    local_checkpoint_dir,
    process_rank,
    process_world_size,
)
from .errors import UsageError

_LONGEST_CONFIG = 1_000_000


def open_session(
    total_train_steps: object,
    local_log_name: str | os.PathLike[str] | None,
    config: object,
    attach: bool | None = None,
) -> Session:
    """Start a run: in the job this process belongs to, else an attached or a local one.

    Raises:
        UsageError: An argument is wrong, or the local log cannot be written.
    """
    total_steps = _whole_steps(total_train_steps)
    config_text = None if config is None else _config_text(config)
    environment = job_environment()
    mode = "job"
    if environment is None and (attach or (attach is None and attach_environment().is_wanted)):
        from ._attach import attach_run

        environment, mode = attach_run(is_demanded=bool(attach)), "attached"
        if environment is not None and environment.rank == 0 and local_log_name is not None:
            say(
                f"this run is attached: {local_log_name} is not written; its metrics are the job's."
            )
    if environment is None:
        return _open_local(total_steps, local_log_name)
    return _open_in_job(environment, total_steps, config_text, mode)


def _open_in_job(
    environment: JobEnvironment, total_steps: int, config: str | None, mode: str
) -> Session:
    is_attached = mode == "attached"
    # An attached run has notes beside its checkpoints, as a local one.
    resumed = Choice(None, environment.processed_steps)
    if not is_attached:
        resumed = resume_point(environment)
    rank, first_step = environment.rank, resumed.step
    folder = environment.run_dir / f"rank-{rank}"
    journal = Journal(folder, rank)
    journal.init(first_step, total_steps, environment, is_restart=resumed.made_ns > 0)
    if config is not None:
        journal.config(first_step, config)
    if is_attached:
        checkpoints = _attached_checkpoints(environment, journal)
    else:
        checkpoints = _job_checkpoints(environment, journal, resumed.candidate)
    from ._notice import Notice

    notice = None
    try:
        progress = control_words.shared_words(str(folder / "progress"))
        control = control_words.shared_words(str(folder / "control"))
        # Beside an attached run nobody decides on emergency saves: a SIGTERM is what it was.
        notice = None if is_attached else Notice(progress, control)
    except OSError as error:
        say(f"progress is not reported ({error.strerror}); training goes on.")
        progress, control = control_words.private_words(), control_words.private_words()
    return Session(
        mode=mode,
        log=journal,
        checkpoints=checkpoints,
        progress=progress,
        control=control,
        rank=rank,
        world_size=environment.world_size,
        total_steps=total_steps,
        first_step=first_step,
        notice=notice,
    )


def _open_local(total_steps: int, local_log_name: str | os.PathLike[str] | None) -> Session:
    rank = process_rank()
    path = None
    if local_log_name is not None:
        path = Path(local_log_name).absolute()
        if rank:
            path = path.with_name(f"{path.name}.rank{rank}")
    log = LocalLog(path)
    if rank == 0:
        _mention_jobs()
    return Session(
        mode="local",
        log=log,
        checkpoints=_local_checkpoints(rank),
        progress=control_words.private_words(),
        control=control_words.private_words(),
        rank=rank,
        world_size=process_world_size(),
        total_steps=total_steps,
        first_step=0,
    )


def find_latest_checkpoint() -> Path | None:
    """The checkpoint to resume from, before a run has started."""
    environment = job_environment()
    if environment is not None:
        resumed = resume_point(environment).candidate
        whole = newest_whole([resumed] if resumed else [])
        return whole.path if whole else None
    found = _local_checkpoints(process_rank()).latest()
    return found[0] if found else None


def _job_checkpoints(
    environment: JobEnvironment, journal: Journal, resumed: Candidate | None
) -> Checkpoints:
    directory = environment.checkpoint_dir
    folder = CheckpointFolder(directory, is_restored=resumed is not None) if directory else None
    rank = environment.rank
    memory = MemoryStage(environment.run_dir / f"rank-{rank}", environment.run_dir / WORKER_LOCK)
    return Checkpoints(
        folder,
        rank=rank,
        record=journal.checkpoint,
        record_shard=journal.shard,
        restored=resumed,
        memory=memory,
        run_dir=environment.run_dir,
    )


def _attached_checkpoints(environment: JobEnvironment, journal: Journal) -> Checkpoints:
    """What lies in the folder is of earlier runs, and found again as outside a job."""
    folder = CheckpointFolder(local_checkpoint_dir(), is_restored=True)
    return Checkpoints(
        folder,
        rank=environment.rank,
        record=journal.checkpoint,
        record_shard=journal.shard,
        keeps_notes=True,
        memory=_attached_memory(environment),
        run_dir=environment.run_dir,
    )


def _attached_memory(environment: JobEnvironment) -> MemoryStage | None:
    if environment.memory_dir is None:
        return None
    folder = environment.memory_dir / f"rank-{environment.rank}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except OSError:
        return None
    return MemoryStage(folder, environment.run_dir / WORKER_LOCK)


def _local_checkpoints(rank: int) -> Checkpoints:
    return Checkpoints(CheckpointFolder(local_checkpoint_dir()), rank=rank, record=None)


def _mention_jobs() -> None:
    try:
        is_logged_in = (home() / "session.json").stat().st_size > len("{}\n")
    except (OSError, RuntimeError):
        return
    if is_logged_in:
        say(
            "this run is local; PERIFLOW_ATTACH=1 shows it as a job, "
            "`pf job run -f job.yml -d .` runs it as one."
        )


def _whole_steps(total: object) -> int:
    """The planned steps as a word; 0 for unknown (None, -1 and infinity, as frameworks say it)."""
    if total is None:
        return 0
    item = getattr(total, "item", None)  # a numpy scalar
    number = item() if callable(item) else total
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise _wrong_total(total)
    if number != number or number <= 0 or number >= 2**63:
        return 0
    if number != int(number):
        raise _wrong_total(total)
    return int(number)


def _wrong_total(total: object) -> UsageError:
    return UsageError(
        f"init(total_train_steps={total!r}): a whole number of steps is needed",
        hint="pf.init(total_train_steps=1000), or leave it out if it is not known",
    )


def _config_text(config: object) -> str:
    import json

    values = config if isinstance(config, Mapping) else getattr(config, "__dict__", None)
    if not isinstance(values, Mapping):
        raise UsageError(
            f"init(config=...) takes names and values, not a {type(config).__name__}",
            hint='pf.init(config={"lr": 1e-3}), or config=vars(args)',
        )
    try:
        text = json.dumps(_plain(values), allow_nan=False)
    except RecursionError:
        raise UsageError("init(config=...) contains itself", hint="leave that part out") from None
    if len(text) > _LONGEST_CONFIG:
        raise UsageError(
            f"init(config=...) is {len(text):,} characters long; {_LONGEST_CONFIG:,} are taken",
            hint="give the hyperparameters only, not data",
        )
    return text


def _plain(value: Any) -> Any:
    """A value as JSON has it; what JSON does not have becomes its text."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return value if -float("inf") < value < float("inf") else str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(entry) for entry in value]
    return str(value)
