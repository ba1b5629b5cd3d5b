"""Emergency rounds of jobs on several nodes, which the control plane decides."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from periflow_sdk.api.models.wire import Body, Wire

_Step = Annotated[int, Field(ge=-(2**63), lt=2**63)]


class RankReport(Body):
    """The words of one rank's progress, as its agent has just seen them.

    ``has_begun``: this process of the rank has started a step.
    """

    started: _Step
    finished: _Step
    acknowledged: _Step
    waiting: _Step = 0
    has_begun: bool = True
    is_done: bool = False
    is_alive: bool = True
    step_seconds: float | None = None


class RoundReport(Body):
    """What an agent says of its ranks while a notice is on.

    ``expected``: how many ranks its launcher has started. ``notice_age_seconds``: how long ago the
    node heard of the notice. ``round_trip_seconds``: from a word of a rank to the control plane and
    back to all ranks; None where it is not yet known, as ``step_seconds``.
    """

    ranks: list[RankReport]
    expected: Annotated[int, Field(ge=0)]
    notice_age_seconds: Annotated[float, Field(ge=0, le=1e8)]
    step_seconds: float | None = None
    round_trip_seconds: float | None = None


class RoundState(Wire):
    """The round as it stands; see ``periflow_sdk._emergency.Round``."""

    step: int
    world_size: int
    margin_steps: int
    patience_seconds: float
    settle_seconds: float
    phase: Literal["open", "committed", "aborted"]
    reason: str | None = None
    stalled_since: float | None = None


class RoundAnswer(Wire):
    """The round, once there is one, and what is left until the nodes go.

    ``takes_part``: whether some rank of the gang is between its first step and its end; None while
    not every node was heard.
    """

    round: RoundState | None = None
    seconds_left: float
    takes_part: bool | None = None
