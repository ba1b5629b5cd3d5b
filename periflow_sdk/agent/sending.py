"""The files of a checkpoint on their way into a snapshot."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from periflow_sdk.agent.folder import NodeFolder, read_json
from periflow_sdk.agent.gathering import Gathering
from periflow_sdk.agent.patience import Backoff, check_superseded, is_passing
from periflow_sdk.agent.staged import staged_files
from periflow_sdk.errors import CheckpointError, PeriFlowError, UnsafePathError

if TYPE_CHECKING:
    from periflow_sdk.api.client import ApiClient

_log = logging.getLogger(__name__)
_TRIES = 4
_STORE_TRIES = 30


class Sender:
    """Sends what a node has of checkpoints.

    Args:
        api: Gives a client.
        is_urgent: The node will be taken: nobody has to be spared any more.
    """

    def __init__(
        self, folder: NodeFolder, api: Callable[[], ApiClient], *, is_urgent: bool
    ) -> None:
        self._folder = folder
        self._api = api
        self._is_urgent = is_urgent

    def send(self, gathering: Gathering) -> str:
        """Upload the staged files of a checkpoint; the id of the snapshot.

        It is tried for ever while the control plane is away, else a number of times.

        Raises:
            SupersededError: this attempt may commit nothing more.
            PeriFlowError, OSError: it cannot be sent, or not now.
        """
        backoff = Backoff()
        tries = 0
        while True:
            try:
                return self._upload(gathering)
            except (PeriFlowError, OSError) as error:
                if isinstance(error, PeriFlowError):
                    check_superseded(error)
                tries += 0 if is_passing(error) else 1
                if is_final(error) or tries >= _patience(error):
                    raise
                _log.warning("%s; uploading again", error)
            backoff.pause()

    def _upload(self, gathering: Gathering) -> str:
        from periflow_sdk.snapshots import upload_files
        from periflow_sdk.snapshots.transfer import Tuning

        project = (read_json(self._folder / "assignment.json") or {})["project_id"]
        # send() is patient already, and looks in between whether the attempt still counts.
        is_gentle = not self._is_urgent and not self._has_ended()
        tuning = Tuning(is_gentle=is_gentle, server_attempts=1)
        with staged_files(self._folder.checkpoint, gathering) as files:
            return upload_files(self._api(), project, files, tuning=tuning).id

    def _has_ended(self) -> bool:
        return (read_json(self._folder / "state.json") or {}).get("phase") == "finishing"


def refusing(why: str) -> Callable[[Gathering], str]:
    """In the place of Sender.send: fails for a reason that is known before."""

    def refuse(_: Gathering) -> str:
        raise CheckpointError(f"{why[0].upper()}{why[1:]}.")

    return refuse


def is_final(error: Exception) -> bool:
    """Whether the files are no good, and will not be at any later time."""
    return isinstance(error, (CheckpointError, UnsafePathError))


def _patience(error: Exception) -> int:
    """How often an upload is tried: a store may be away for a while, a disk is not."""
    return _STORE_TRIES if getattr(error, "code", "") == "transfer_failed" else _TRIES
