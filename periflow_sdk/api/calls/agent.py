"""What a node agent calls, with its job token."""

from __future__ import annotations

from typing import Any

from periflow_sdk.api import models as m
from periflow_sdk.api.calls.transport import Transport, path_segment


class AgentCalls(Transport):
    """What a node agent calls, with its job token."""

    def assignment(self) -> m.Assignment:
        return self._get("agent/assignment", m.Assignment)

    def register_agent(self, body: m.AgentRegister) -> m.Rendezvous:
        return self._post("agent/register", m.Rendezvous, body)

    def heartbeat(self, body: m.AgentHeartbeat) -> m.AgentOrders:
        return self._post("agent/heartbeat", m.AgentOrders, body)

    def job_credentials(self) -> m.JobCredentials:
        """The values of what the job's file names; until they are closed."""
        return self._get("agent/credentials", m.JobCredentials)

    def close_credentials(self) -> None:
        """Before the command starts: this node gets no values any more."""
        self._request("POST", "agent/credentials/close")

    def dataset_access(self, name: str) -> m.DatasetAccess:
        """What is needed to read a dataset that the job's file names. Each call is a use."""
        return self._get(f"agent/datasets/{path_segment(name)}/access", m.DatasetAccess)

    def report_event(self, body: m.AgentEvent) -> None:
        self._request("POST", "agent/events", json=body.model_dump(mode="json"))

    def report_system(self, body: m.NodeSystem) -> None:
        self._request("POST", "agent/system", json=body.model_dump(mode="json"))

    def ship_journal(self, rank: int, segment: str, offset: int, lines: bytes) -> int:
        """Send whole lines of a segment that start at ``offset``; the next offset wanted.

        Raises:
            ConflictError: the server wants another offset (``data["offset"]``).
        """
        return self._ship("agent/journal", {"rank": rank, "segment": segment}, offset, lines)

    def ship_log(self, offset: int, data: bytes) -> int:
        """Send raw output that starts at ``offset``; the next offset wanted."""
        return self._ship("agent/log", {}, offset, data)

    def start_checkpoint(self, body: m.CheckpointStart) -> m.Checkpoint:
        return self._post("agent/checkpoints", m.Checkpoint, body)

    def commit_checkpoint(self, upload_id: str, body: m.CheckpointCommit) -> m.Checkpoint:
        return self._post(f"agent/checkpoints/{upload_id}/commit", m.Checkpoint, body)

    def report_parts(self, body: m.PartsReport) -> m.PartStates:
        """Say what this node has of checkpoints of several nodes; what became of them."""
        response = self._request("POST", "agent/parts", json=body.model_dump(mode="json"))
        return m.PartStates.model_validate_json(response.content)

    def advance_round(self, body: m.RoundReport) -> m.RoundAnswer:
        """Say what this node's ranks say of an emergency round; the round as it is now."""
        response = self._request("POST", "agent/round", json=body.model_dump(mode="json"))
        return m.RoundAnswer.model_validate_json(response.content)

    def finish_attempt(self, body: m.AgentFinish) -> None:
        self._request("POST", "agent/finish", json=body.model_dump(mode="json"))

    def _ship(self, path: str, params: dict[str, Any], offset: int, data: bytes) -> int:
        response = self._request(
            "POST",
            path,
            params={**params, "offset": offset},
            content=data,
            headers={"Content-Type": "application/octet-stream"},
        )
        return m.Accepted.model_validate_json(response.content).offset
