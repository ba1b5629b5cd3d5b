"""What a node does from a notice on, until its command has ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from periflow_sdk import _control as word
from periflow_sdk._emergency import Round
from periflow_sdk.agent.decider import Decider
from periflow_sdk.agent.folder import NodeFolder
from periflow_sdk.agent.pace import Pace
from periflow_sdk.agent.progress import RankProgress, read_progress, write_control
from periflow_sdk.agent.state import Notice, StateFile
from periflow_sdk.agent.training import Training

LOOK_SECONDS = 0.015
_DEAF_SECONDS = 3.0
_FAREWELL_SECONDS = 10.0
_KILL_SECONDS = 10.0
_UPLOAD_BYTES_PER_SECOND = 100e6
_UPLOAD_SECONDS = 2.0


class Emergency:
    """Brings the ranks to one step, lets them save and leave, and ends what does not leave.

    What it has decided is in the supervisor's memory, so a later supervisor goes on with it.

    Args:
        tell: Adds an event (kind, message).
        decider: Decides the round.
    """

    def __init__(
        self,
        folder: NodeFolder,
        memory: StateFile,
        training: Training,
        tell: Callable[[str, str], None],
        decider: Decider,
    ) -> None:
        self._folder = folder
        self._memory = memory
        self._state = memory.state
        self._training = training
        self._tell = tell
        self._decider = decider
        self._pace = Pace()
        self._decided_at: float | None = None
        self._deaf_since: float | None = None
        self._done_since: float | None = None
        self._told_by_launcher: set[int] = set()
        self._round = Round(**self._state.round) if self._state.round else None

    @property
    def is_on(self) -> bool:
        """Whether a notice was heard."""
        return self._state.notice is not None

    @property
    def pause_seconds(self) -> float | None:
        """How soon to look again; None while there is no hurry."""
        return LOOK_SECONDS if self.is_on and not self._state.terminated_at else None

    def hear(self, notice: Notice, deadline: float, at: float) -> bool:
        """Take a notice: the first begins, a later one only brings the deadline nearer.

        Args:
            deadline: When the node goes, in unix seconds.
            at: When the notice was given.

        Returns:
            Whether it is the first.
        """
        state = self._state
        is_first = state.notice is None
        with self._memory.lock:
            if is_first:
                state.noticed_at, state.deadline = at, deadline
            if is_first or notice == "stop":
                state.notice = notice
            state.deadline = min(state.deadline, deadline)
        self._memory.save()
        return is_first

    def insist(self) -> None:
        """Somebody asked twice: what does not save is killed."""
        if self._round is None:
            self._training.kill()

    def watch(self) -> float | None:
        """Look at the ranks while all is well; when one of them had a SIGTERM, if one had.

        One that ranks have while another has died is no notice: so launchers end what a failure
        leaves, before they give up or start all ranks again.
        """
        found = read_progress(self._run_dir)
        self._decider.watch(found, time.time())
        ranks = found.values()
        if ranks:
            self._pace.note(max(rank.finished for rank in ranks), time.time())
        noticed = {rank.pid: rank.noticed_at for rank in ranks if rank.noticed_at}
        if noticed and any(rank.has_fallen() for rank in ranks):
            self._told_by_launcher |= noticed.keys()
        return min((noticed[pid] for pid in noticed.keys() - self._told_by_launcher), default=None)

    def tend(self) -> None:
        """Do what is to be done now."""
        now = time.time()
        if now >= self._kill_at():
            if not self._state.terminated_at:
                # Also what is only killed was ended by the notice, and is no failure of its own.
                self._note_ending("there was no time left", now)
            self._training.kill()
        elif self._state.terminated_at:
            self._training.terminate()
        else:
            progress = read_progress(self._run_dir)
            self._advance(progress, now)
            reason = self._reason_to_end(progress, now)
            if reason is not None:
                self._terminate(reason, now)

    def conclude(self) -> None:
        """The command has ended: learn how the round stands, for the report."""
        is_decided = self._round is not None and self._round.phase != "open"
        if self.is_on and not is_decided and self._decider.conclude(self._state):
            self._advance(read_progress(self._run_dir), time.time())

    def _advance(self, progress: Mapping[int, RankProgress], now: float) -> None:
        """Open the round or take it a look further, and tell the ranks."""
        deadline = self._state.deadline
        current = self._decider.next(
            self._round, self._state, progress, self._pace.step_seconds(), now
        )
        if self._state.deadline != deadline:
            self._memory.save()
        if current is None:
            return
        self._keep(current)
        words = [*current.control_words(), (word.HEARTBEAT, int(now * 1000))]
        if self._state.notice == "stop":
            words.append((word.STOP, 1))
        write_control(self._run_dir, words)

    def _keep(self, current: Round) -> None:
        """Remember the round before the ranks hear of it."""
        if current == self._round:
            return
        before = self._round
        self._round = current
        with self._memory.lock:
            self._state.round = asdict(current)
        self._memory.save()
        if current.phase == "committed" and (before is None or before.phase == "open"):
            self._tell("emergency", f"Every rank saves at step {current.step}.")
        elif current.phase == "aborted" and (before is None or before.phase == "open"):
            self._tell("warning", f"There is no emergency save: {current.reason}.")

    def _reason_to_end(self, progress: Mapping[int, RankProgress], now: float) -> str | None:
        """Why the command is to be ended now; None while it may go on."""
        ranks = progress.values()
        if self._round is None:
            is_leaving = _is_leaving(ranks) and not self._lingers(ranks, now)
            is_coming = self._decider.may_open(self._state, ranks, now)
            return None if is_coming or is_leaving else ""
        if self._round.phase == "open":
            return None
        if now >= self._cutoff(now):
            return self._round.reason or "the script did not leave its loop"
        if self._round.phase == "aborted":
            return None if any(rank.is_done for rank in ranks) else self._round.reason
        return self._reason_after_commit(progress, now)

    def _reason_after_commit(self, progress: Mapping[int, RankProgress], now: float) -> str | None:
        assert self._round is not None
        ranks = progress.values()
        left = [rank for rank in ranks if not (rank.is_done or rank.saw_stop)]
        if any(not rank.is_alive() for rank in left):
            return "a rank died before it had saved"
        step = self._round.step
        if not left or any(rank.started <= step + 1 for rank in left):
            self._deaf_since = None
        elif self._deaf_since is None:
            self._deaf_since = now
        elif now - self._deaf_since > _DEAF_SECONDS:
            return f"the script goes on after step {step} and does not ask should_stop()"
        if all(rank.is_done for rank in ranks) and self._lingers(ranks, now):
            return "the command did not end after its ranks had finished"
        return None

    def _lingers(self, ranks: Iterable[RankProgress], now: float) -> bool:
        """Whether ranks that have finished live on, and have done so for long."""
        if not _is_leaving(ranks):
            self._done_since = None
            return False
        if self._done_since is None:
            self._done_since = now
        return now - self._done_since > _FAREWELL_SECONDS

    def _terminate(self, reason: str, now: float) -> None:
        self._note_ending(reason, now)
        if self._round is None:
            words = [(word.DEADLINE, int(self._state.deadline * 1000)), (word.STOP, 1)]
            write_control(self._run_dir, words)
        self._training.terminate()

    def _note_ending(self, reason: str, now: float) -> None:
        with self._memory.lock:
            self._state.terminated_at = now
            self._state.ending = reason
        self._memory.save()

    def _kill_at(self) -> float:
        if self._round is None or not self._state.terminated_at:
            return self._state.deadline
        return min(self._state.deadline, self._state.terminated_at + _KILL_SECONDS)

    def _cutoff(self, now: float) -> float:
        """Until when the command may run, if what it saved is to be uploaded in time."""
        state = self._state
        if self._decided_at is None:
            self._decided_at = now
        size = _size(self._folder.checkpoint / ".periflow")
        upload = _UPLOAD_SECONDS + size / _UPLOAD_BYTES_PER_SECOND
        # Ranks that agreed late have a third less of the time they then had left, not nothing.
        most = state.deadline - max(state.noticed_at, self._decided_at)
        return state.deadline - min(upload, most / 3)

    @property
    def _run_dir(self) -> Path:
        return Path(self._state.run_dir)


def _is_leaving(ranks: Iterable[RankProgress]) -> bool:
    """Whether some rank has finished, and its process has not yet ended."""
    return any(rank.is_done and rank.is_alive() for rank in ranks)


def _size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size
        except OSError:
            continue
    return total
