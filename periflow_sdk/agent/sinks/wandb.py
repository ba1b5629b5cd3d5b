"""Weights & Biases: one run for a job, resumed by each attempt."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from periflow_sdk.agent.sinks.memory import Mark
from periflow_sdk.agent.sinks.placing import Past, Rows
from periflow_sdk.agent.sinks.reading import Record
from periflow_sdk.agent.sinks.sink import Ending, SinkAwayError, SinkRefusedError

if TYPE_CHECKING:
    from periflow_sdk.api.models import Assignment

STEP = "periflow/step"
_DEFAULT_PROJECT = "periflow"
_OPEN_SECONDS = 20.0
_FLUSH_SECONDS = 1.0


@dataclass(frozen=True)
class WandbAccess:
    """How W&B is spoken to: nothing of it comes from the job's file or environment but ``mode``."""

    api_key: str | None = field(repr=False)
    url: str | None
    mode: str


class WandbSink:
    """A W&B run that takes what rank 0 reports and what the agent of node 0 measures.

    Each record of `pf.metric()` goes to the row of its step. W&B has no way to take a row back, so
    steps that an attempt repeats are left as they were (see ``Past``).

    Args:
        folder: For W&B's own files.
        earlier: The last state of the sink of an earlier attempt on this machine.
    """

    def __init__(
        self, folder: Path, assignment: Assignment, access: WandbAccess, earlier: dict[str, Any]
    ) -> None:
        self._folder = folder
        self._assignment = assignment
        self._access = access
        self._earlier = earlier
        self._rows, self._past = Rows(), Past()
        self._measured: dict[str, float | str] = {}
        self._first_row = 0
        self._run: Any = None

    def open(self, marks: list[Mark]) -> Mark | None:
        """Open the run, or resume it where W&B says it is."""
        if importlib.util.find_spec("wandb") is None:
            raise SinkRefusedError(
                f"wandb is not installed in the agent's Python ({sys.executable}): "
                "pip install 'periflow_sdk[wandb]'"
            )
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._run = self._init()
        self._run.define_metric("*", step_metric=STEP)
        mark = self._last_safe(marks)
        if mark is not None:
            self._restore(mark.state)
        elif self._run.resumed:
            self._continue_run()
        elif self._earlier:
            self._restore(self._earlier)
            self._past.pid = 0
        return mark

    def _last_safe(self, marks: list[Mark]) -> Mark | None:
        """The newest mark before which nothing is missing, whatever W&B's client has lost."""
        if self._access.mode == "offline":
            sure = [mark for mark in marks if mark.at < marks[-1].at - 3 * _FLUSH_SECONDS]
        else:
            self._first_row = int(self._run.step) if self._run.resumed else 0
            sure = [m for m in marks if m.state["rows"]["number"] < self._first_row]
        return sure[-1] if sure else None

    def _restore(self, state: dict[str, Any]) -> None:
        self._rows = Rows(**state["rows"])
        self._past = Past(**state["past"])

    def _continue_run(self) -> None:
        """Go on after what W&B has of earlier attempts."""
        row = max(0, self._first_row - 1)
        reached = self._run.summary.get(STEP)
        step = int(reached) if isinstance(reached, int | float) else row
        self._rows, self._past = Rows(row, step), Past(reached=step)

    def take(self, records: list[Record]) -> None:
        """Hand a batch on, if it is rank 0's or the agent's."""
        for record in records:
            if record.rank < 0:
                # Kept for the row of the next step: a row of its own would be one step ahead.
                self._measured |= record.values()
            elif record.rank == 0:
                self._take(record)

    def note_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name it in the history and as the run's newest."""
        named = {key: value for key, value in checkpoint.items() if value is not None}
        self._measured |= {f"checkpoint/{key}": value for key, value in named.items()}

    def state(self) -> dict[str, Any]:
        """Where rows and steps are."""
        return {"rows": asdict(self._rows), "past": asdict(self._past)}

    def address(self) -> str | None:
        """The run's page."""
        return f"The W&B run: {self._run.url}" if self._access.mode == "online" else None

    def place(self) -> Path:
        """What `wandb sync` is to be told."""
        return Path(self._run.settings.sync_dir) if self._run is not None else self._folder

    def close(self, ending: Ending) -> str | None:
        """Send what is left, and end the run, or this attempt's part of it."""
        if self._measured:
            self._log({}, self._rows.step, None)
        place = self.place()
        if ending.is_preempted:
            self._run.mark_preempting()
        # Preempted is what W&B calls a run that was marked and ended with another code than 0.
        code = 1 if ending.is_preempted else ending.exit_code
        self._run.finish(exit_code=1 if code is None else code)
        if self._access.mode == "offline":
            return f"To send the W&B run of this attempt: wandb sync {place}"
        shutil.rmtree(place, ignore_errors=True)
        return None

    def _take(self, record: Record) -> None:
        if record.kind == "config" and isinstance(record.body.get("config"), dict):
            self._run.config.update(record.body["config"], allow_val_change=True)
        if self._past.is_repeated(record) or record.kind != "metric":
            return
        if values := record.values():
            self._log(values, record.step, record.time)

    def _log(self, values: dict[str, float | str], step: int, time: float | None) -> None:
        row = self._rows.place(step, values)
        if row < self._first_row:
            return
        stamp = {"_timestamp": time} if time else {}
        self._run.log({**self._measured, **values, STEP: step, **stamp}, step=row)
        self._measured = {}

    def _init(self) -> Any:
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        import wandb

        plugin = self._assignment.spec.plugin.wandb
        assert plugin is not None
        given = {"api_key": self._access.api_key, "base_url": self._access.url}
        settings = _settings(
            **{name: value for name, value in given.items() if value is not None},
            mode=self._access.mode,
            root_dir=str(self._folder),
            init_timeout=_OPEN_SECONDS,
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            # It would describe and measure this process.
            x_disable_stats=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
            x_transaction_log_flush_interval=_FLUSH_SECONDS,
        )
        try:
            return wandb.init(
                id=self._assignment.job_id,
                resume="allow",
                project=plugin.project or _DEFAULT_PROJECT,
                entity=plugin.entity,
                name=plugin.name or self._assignment.name,
                group=self._assignment.spec.experiment,
                settings=settings,
            )
        except wandb.errors.AuthenticationError as error:
            raise SinkRefusedError(f"W&B refuses the key: {_sentence(error)}") from None
        except (wandb.errors.Error, OSError) as error:
            text = _sentence(error)
            if any(word in text.lower() for word in ("401", "403", "permission", "unauthorized")):
                raise SinkRefusedError(f"W&B refuses the key: {text}") from None
            raise SinkAwayError(f"W&B does not answer: {text}") from None


def _settings(**given: Any) -> Any:
    """W&B's settings. Those that begin with x_ are its private ones: not every version has all."""
    import wandb

    known = wandb.Settings.model_fields
    return wandb.Settings(**{name: value for name, value in given.items() if name in known})


def _sentence(error: BaseException) -> str:
    """One line of an error."""
    return " ".join(str(error).split())[:300]
