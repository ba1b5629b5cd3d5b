"""A job on its way to the control plane: planned, checked, sent, created."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from periflow_cli.connection import Connection
from periflow_cli.moment import size_text
from periflow_cli.names import unknown
from periflow_cli.output import Output
from periflow_sdk.api.jobfile import JobSpec
from periflow_sdk.api.models import GitState, JobCreate, JobDetail, VmType, Workspace
from periflow_sdk.errors import UsageError

if TYPE_CHECKING:
    from periflow_sdk.snapshots.scan import Plan

_SECRETS_SHOWN = 5
_LARGE_FILE = 100_000_000
_LARGE_WORKSPACE = 500_000_000
_LARGE_SHOWN = 3


class Submission:
    """One `pf job run`.

    Args:
        folder: The workspace; None runs the command without one.
        command: The command line so far, for hints that complete it.
    """

    def __init__(self, output: Output, spec: JobSpec, folder: Path | None, command: str) -> None:
        self._output = output
        self._spec = spec
        self._folder = folder
        self._command = command
        self._plan: Plan | None = None

    def plan(self) -> None:
        """See what the workspace would send.

        Raises:
            UsageError: something in it cannot be sent, such as a link that leads out.
        """
        if self._folder is None:
            return
        from periflow_cli.source import plan_source
        from periflow_sdk.snapshots.ignore import IgnoreRules

        self._plan = plan_source(self._folder, IgnoreRules(), keep_name=False)

    def announce(self) -> None:
        """Say what of the workspace goes, what stays at home, and what should perhaps."""
        if self._folder is None or self._plan is None:
            return
        files = self._plan.file_count
        self._output.note(
            f"Workspace {self._folder.name}: {size_text(self._plan.size)} in {files} "
            f"file{'' if files == 1 else 's'}"
        )
        if warning := _too_large(self._plan):
            self._output.note(warning)
        left_out = self._plan.left_out
        if left_out:
            named = [f"{each.path} ({each.reason})" for each in left_out[:_SECRETS_SHOWN]]
            more = len(left_out) - len(named)
            rest = f" and {more} more" if more > 0 else ""
            self._output.note(f"Left out, as it looks secret: {', '.join(named)}{rest}")

    def check(self, connection: Connection) -> None:
        """Ask the control plane for everything that the job file names, before sending any byte.

        Raises:
            NotFoundError: an unknown VM, dataset, checkpoint or credential.
            UsageError: more devices than there are, or a credential for something else.
        """
        from periflow_cli.checkpoints import find_checkpoint
        from periflow_cli.datasets import find_dataset
        from periflow_sdk.api.jobfile import HUB_PREFIX

        self._check_vm(connection)
        for section in self._spec.data:
            if not section.name.startswith(HUB_PREFIX):
                find_dataset(connection, section.name)
        if self._spec.checkpoint.input:
            find_checkpoint(connection, self._spec.checkpoint.input.id)
        self._check_credentials(connection)

    def submit(self, connection: Connection, resume: str) -> JobDetail:
        """Send the workspace and create the job.

        Args:
            resume: The command that goes on where an interrupt left off.
        """
        from periflow_cli.shell import shell_environment

        shell, warning = shell_environment()
        if warning:
            self._output.note(f"Warning: {warning}")
        workspace = self._send(connection, resume)
        client, project = connection.client, connection.project.id
        body = JobCreate(spec=self._spec, workspace=workspace, shell=shell, git=self._git())
        return client.job(project, client.create_job(project, body).number)

    def summary(self) -> dict[str, Any] | None:
        """The workspace, for a program."""
        if self._folder is None or self._plan is None:
            return None
        return {
            "name": self._folder.name,
            "size": self._plan.size,
            "file_count": self._plan.file_count,
            "left_out": [{"path": x.path, "reason": x.reason} for x in self._plan.left_out],
        }

    def _git(self) -> GitState | None:
        """Where the code stands: `.git` itself is never sent."""
        from periflow_sdk.agent.git import git_state

        return git_state(self._folder) if self._folder is not None else None

    def _check_credentials(self, connection: Connection) -> None:
        from periflow_cli.commands.credential import find_credential

        for purpose, section in self._spec.credential_sections():
            credential = find_credential(connection, str(section.credential_id))
            if credential.type != purpose:
                raise UsageError(
                    f"Credential {credential.name} is for {credential.type}, and the job file "
                    f"names it for {purpose}.",
                    code="credential_type",
                    hint=f"pf credential list -t {purpose}",
                )

    def _check_vm(self, connection: Connection) -> None:
        vms = connection.client.vm_types(connection.project.id)
        vm = next((each for each in vms if each.vm == self._spec.vm), None)
        if vm is None:
            error = unknown("VM", self._spec.vm, (each.vm for each in vms), "pf vm list")
            error.code = "vm_unknown"
            error.hint = f"{self._working_line(vms)} (`pf vm list` lists them all)"
            raise error
        if self._spec.num_devices > vm.quota:
            raise UsageError(
                f"The job asks for {self._spec.num_devices} devices, and {vm.vm} has {vm.quota}.",
                code="too_many_devices",
                hint=self._working_line([vm]),
            )

    def _working_line(self, vms: list[VmType]) -> str:
        """The whole command with a VM that there is, the one of this machine first."""
        if not vms:
            return "pf vm list"
        best = next((each for each in vms if each.vm == "local-cpu"), vms[0])
        devices = min(self._spec.num_devices, max(best.quota, 1))
        return f"{self._command} --vm {best.vm} --num-devices {devices}"

    def _send(self, connection: Connection, resume: str) -> Workspace | None:
        if self._folder is None:
            return None
        from periflow_cli.transfer import Bar
        from periflow_sdk.snapshots.ignore import IgnoreRules
        from periflow_sdk.snapshots.upload import upload_folder

        try:
            with Bar("Uploading the workspace", self._plan.size if self._plan else 0) as bar:
                snapshot = upload_folder(
                    connection.client,
                    connection.project.id,
                    self._folder,
                    keep_name=False,
                    ignore=IgnoreRules(),
                    state_dir=connection.profile.folder / "uploads",
                    progress=bar,
                    plan=self._plan,
                )
        except KeyboardInterrupt:
            self._output.note(f"Interrupted: no job was made. To go on: {resume}")
            raise
        return Workspace(snapshot_id=snapshot.id, name=self._folder.name)


def _too_large(plan: Plan) -> str | None:
    """A warning about files that a workspace rarely means to have: data, old checkpoints."""
    by_size = sorted(plan.files, key=lambda file: file.size, reverse=True)
    large = [file for file in by_size if file.size > _LARGE_FILE]
    if not large and plan.size <= _LARGE_WORKSPACE:
        return None
    shown = (large or by_size)[:_LARGE_SHOWN]
    named = ", ".join(f"{file.path} ({size_text(file.size)})" for file in shown)
    more = f" and {len(large) - len(shown)} more" if len(large) > len(shown) else ""
    return (
        f"Warning: much of it is in {named}{more}. What the job does not need can stay at home: "
        "name it in .pfignore, a line a file or folder."
    )
