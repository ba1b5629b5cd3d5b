"""What one of several nodes hands in of checkpoints whose other parts are on other nodes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from periflow_sdk import _control as word
from periflow_sdk.agent.absence import absence
from periflow_sdk.agent.gathering import Gathering
from periflow_sdk.agent.ledger import Ledger, Verdict
from periflow_sdk.agent.patience import SupersededError, for_ever
from periflow_sdk.agent.progress import RankProgress
from periflow_sdk.errors import PeriFlowError

if TYPE_CHECKING:
    from periflow_sdk.api.client import ApiClient
    from periflow_sdk.api.models import CheckpointPart, PartsReport, PartState, Passage

_log = logging.getLogger(__name__)
_INTERVAL_SECONDS = 1.0
_Key = tuple[int, str, int, int]


@dataclass(frozen=True)
class Look:
    """What was seen of the ranks.

    Attributes:
        progress: Their words, read before the journal was.
        ended: The training has ended.
        ended_well: It ended with exit code 0.
    """

    progress: Mapping[int, RankProgress]
    ended: bool
    ended_well: bool


class Handover:
    """Brings what this node has to the control plane, which joins it with what others have.

    A report says everything, so it may be said twice, and by a later agent. What a rank has saved
    before it went on is in the same report as the word that it went on, or in one before.

    Args:
        api: Gives the client.
        hand_in: Uploads what is here of a checkpoint, or notes why not; told why a part is missing
            for good, or nothing.
        let_go: Called with a checkpoint that is settled, and whether it is in the store.
        attempt: The earlier attempt that the ledger is of; None for the agent's own.
    """

    def __init__(
        self,
        ledger: Ledger,
        api: Callable[[], ApiClient],
        hand_in: Callable[[Gathering, str], None],
        let_go: Callable[[Gathering, bool], None],
        attempt: int | None = None,
    ) -> None:
        self._ledger = ledger
        self._api = api
        self._hand_in = hand_in
        self._let_go = let_go
        self._attempt = attempt
        self._last: PartsReport | None = None
        self._sent_at = 0.0

    def round(
        self, look: Look, is_pending: Callable[[Gathering], bool], pause_seconds: float
    ) -> None:
        """Hand in what can be handed in now, and report.

        Args:
            is_pending: Whether files of a checkpoint are still being written.
            pause_seconds: How long to wait before the same is said again.
        """
        verdicts = self._verdicts(look)
        due = [
            gathering
            for gathering in self._ledger.gatherings
            if not (gathering.snapshot_id or gathering.failure)
            and verdicts[_key(gathering)] != "open"
            and not (verdicts[_key(gathering)] == "whole" and is_pending(gathering))
        ]
        if due:
            self._report(look, verdicts, 0.0)  # so that it can be seen on its way
        for gathering in due:
            is_torn = verdicts[_key(gathering)] == "torn"
            self._hand_in(gathering, self._why_torn(gathering, look) if is_torn else "")
        self._report(look, verdicts, 0.0 if due or look.ended else pause_seconds)

    def deliver(self, kept: list[Gathering]) -> None:
        """Hand in what could not be sent when its ranks passed; how far they came was said then."""
        for gathering in kept:
            gathering.failure = ""
            self._hand_in(gathering, "")
        if kept:
            self._say([_part(gathering) for gathering in kept], [], None)

    def _verdicts(self, look: Look) -> dict[_Key, Verdict]:
        return {
            _key(gathering): self._ledger.verdict(
                gathering, look.progress, ended=look.ended, ended_well=look.ended_well
            )
            for gathering in self._ledger.gatherings
        }

    def _why_torn(self, gathering: Gathering, look: Look) -> str:
        return self._ledger.why_torn(
            gathering, look.progress, ended=look.ended, ended_well=look.ended_well
        )

    def _report(self, look: Look, verdicts: Mapping[_Key, Verdict], pause_seconds: float) -> None:
        from periflow_sdk.api.models import Passage

        passages = []
        for generation in self._ledger.generations:
            step, is_over = self._ledger.passed(
                generation, look.progress, ended=look.ended, ended_well=look.ended_well
            )
            passages.append(Passage(generation=generation, step=step, is_over=is_over))
        passed = {passage.generation: passage.step for passage in passages}
        known = [
            gathering
            for gathering in self._ledger.gatherings
            if verdicts[_key(gathering)] != "open"
            or gathering.step <= passed.get(gathering.generation, -1)
        ]
        parts = [_part(gathering) for gathering in known]
        answer = self._say(parts, passages, _agreed(look), pause_seconds)
        settled = {_key(state): state for state in answer if state.status != "uploading"}
        for gathering in known:
            # One that has failed for want of another node's part may still become whole.
            state = settled.get(_key(gathering))
            if state is not None and (gathering.snapshot_id or gathering.failure):
                self._let_go(gathering, state.status == "ready")

    def _send(self, body: PartsReport) -> list[PartState]:
        try:
            return for_ever(lambda: self._api().report_parts(body)).parts
        except SupersededError:
            raise
        except PeriFlowError as error:
            _log.error("what this node has of checkpoints is refused: %s", error)
            return []

    def _say(
        self,
        parts: list[CheckpointPart],
        passages: list[Passage],
        agreed_step: int | None,
        pause_seconds: float = 0.0,
    ) -> list[PartState]:
        """Send a report, unless nothing is new in it and nobody waits for an answer."""
        from periflow_sdk.api.models import PartsReport

        body = PartsReport(
            parts=parts, passages=passages, agreed_step=agreed_step, attempt=self._attempt
        )
        age = time.monotonic() - self._sent_at
        if self._last is not None and parts == self._last.parts:
            if not parts and body == self._last:
                return []
            if age < (pause_seconds if parts else min(_INTERVAL_SECONDS, 2 * pause_seconds)):
                return []
        answer = self._send(body)
        self._last, self._sent_at = body, time.monotonic()
        return answer


def _part(gathering: Gathering) -> CheckpointPart:
    from periflow_sdk.api.models import CheckpointPart

    shards: dict[str, tuple[int, int]] = {}
    for part in gathering.parts:
        if part.folder:
            count = shards.get(part.folder, (0, 0))[1]
            shards[part.folder] = (part.ranks, count + 1)
    return CheckpointPart(
        step=gathering.step,
        save_type=gathering.save_type,
        generation=gathering.generation,
        number=gathering.number,
        size=gathering.size,
        first_rank=min(part.rank for part in gathering.parts),
        snapshot_id=gathering.snapshot_id or None,
        failure=gathering.failure or None,
        shards=shards,
    )


def _key(key: Gathering | PartState) -> _Key:
    return key.step, key.save_type, key.generation, key.number


def _agreed(look: Look) -> int | None:
    """The step to which all ranks have agreed, and which none has missed; 0 for none.

    None without ranks.
    """
    steps = {words.words[word.ACKNOWLEDGED] for words in look.progress.values()}
    if not steps:
        return None
    step = max(0, steps.pop())
    has_missed = any(
        absence(rank, words, step, ended=look.ended, ended_well=look.ended_well)
        for rank, words in look.progress.items()
    )
    return 0 if steps or has_missed else step
