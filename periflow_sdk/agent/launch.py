"""From an assignment to a running command."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from periflow_sdk.agent.address import registration
from periflow_sdk.agent.command import command_line, environment, texts
from periflow_sdk.agent.credential import take_credentials
from periflow_sdk.agent.dataset import DatasetFolders, with_own_copies
from periflow_sdk.agent.endpoint import Endpoint
from periflow_sdk.agent.folder import NodeFolder
from periflow_sdk.agent.kept import remove_stale
from periflow_sdk.agent.mounts import Layout, layout
from periflow_sdk.agent.patience import for_ever
from periflow_sdk.agent.preparation import Preparation, in_background
from periflow_sdk.agent.restored import note_restored
from periflow_sdk.agent.runtimes import Choice, begin_choice
from periflow_sdk.agent.state import StateFile
from periflow_sdk.agent.training import Training
from periflow_sdk.api.client import ApiClient
from periflow_sdk.api.models import Assignment, JobCredential, Rendezvous
from periflow_sdk.errors import TimedOutError

_START_SECONDS = 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0


class Launcher:
    """Prepares a node, meets the other nodes, and starts the command.

    ``credentials`` are those that the job's file names, once it is launched; the command gets none.

    Args:
        tell: Adds an event (kind, message).
    """

    def __init__(
        self,
        client: ApiClient,
        assignment: Assignment,
        folder: NodeFolder,
        run_dir: Path,
        endpoint: Endpoint,
        tell: Callable[[str, str], None],
    ) -> None:
        self._client = client
        self._assignment = assignment
        self._folder = folder
        self._run_dir = run_dir
        self._endpoint = endpoint
        self._tell = tell
        self.credentials: list[JobCredential] = []

    def launch(self, memory: StateFile, training: Training, leave: Callable[[], bool]) -> bool:
        """Start the command; False when ``leave`` said so before it was started.

        Raises:
            PeriFlowError: something the job needs is not there, or its mounts are refused.
            OSError: the disk refused something.
        """
        remove_stale(self._folder, self._run_dir)
        choose = begin_choice(self._folder)
        layout(self._assignment, self._folder, self._run_dir)  # refused before anything is fetched
        datasets = DatasetFolders(self._endpoint, self._assignment, self._folder)
        preparation = Preparation(
            self._client, self._assignment, self._folder, self._tell, datasets
        )
        prepared = in_background(preparation.run, leave)
        rendezvous = self._meet(memory, leave)
        if rendezvous is None or leave():
            choose()
            return False
        memory.state.restored = prepared.name if prepared else None
        if prepared:
            note_restored(self._folder.checkpoint, self._run_dir)
            self._assignment = self._assignment.model_copy(update={"restore": prepared.point})
        spec = self._assignment.spec
        self.credentials = take_credentials(self._client, spec, self._tell, leave)
        choice = choose()
        places = layout(self._assignment, self._folder, self._run_dir)  # as the links lead now
        memory.state.runtime = choice.runtime.name
        memory.save()
        self._start(training, places, choice, rendezvous, memory.state.restored)
        return True

    def _start(
        self,
        training: Training,
        places: Layout,
        choice: Choice,
        rendezvous: Rendezvous,
        restored: str | None,
    ) -> None:
        runtime = choice.runtime
        originals = places.data
        if not runtime.covers_installs:
            places = with_own_copies(places, self._folder)
        if runtime.real_paths:
            from periflow_sdk.agent.runtimes.plain import refuse_mount_paths

            refuse_mount_paths(places, texts(self._assignment), choice.faults)
        self._explain(choice)
        variables = environment(
            self._assignment,
            places,
            rendezvous,
            self._endpoint,
            self._run_dir,
            originals,
            restored,
            self._folder / "overlay" / "user",
            real_paths=runtime.real_paths,
            inherited=os.environ,
        )
        command = self._assignment.spec.job_setting.docker.command
        argv = command_line(command, variables["PATH"])
        plan = {**runtime.plan(places, argv), "grace_seconds": self._assignment.grace_seconds}
        training.start(plan, variables, [mount.source for mount in originals])
        if not training.wait(_START_SECONDS):
            raise TimedOutError(f"The command was not started within {_START_SECONDS:.0f} seconds.")

    def _explain(self, choice: Choice) -> None:
        image = self._assignment.spec.job_setting.docker.image
        python = self._assignment.shell.python or "this machine's programs"
        self._tell("runtime", f"The image {image} is not used: the command runs with {python}.")
        if choice.runtime.real_paths:
            self._tell(
                "warning",
                f"The mount paths are not real here: {'; '.join(choice.faults)}. The command "
                "finds its folders by PERIFLOW_WORKSPACE_DIR, PERIFLOW_DATA_DIR and CKPT_DIR.",
            )
        if not choice.runtime.covers_installs and self._assignment.shell.prefix:
            self._tell(
                "warning", f"What the command installs stays in {self._assignment.shell.prefix}."
            )

    def _meet(self, memory: StateFile, leave: Callable[[], bool]) -> Rendezvous | None:
        """Register until the whole gang is there; None when ``leave`` says so before."""
        body = registration(self._endpoint.url, memory.state.port)
        memory.state.port = body.port
        memory.save()
        pause = _FIRST_PAUSE
        while not leave():
            rendezvous = for_ever(lambda: self._client.register_agent(body), leave=leave)
            if rendezvous.ready:
                return rendezvous
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        return None
