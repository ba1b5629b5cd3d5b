"""The control plane's HTTP API as a typed client: one method an endpoint."""

from __future__ import annotations

from periflow_sdk.api.calls.account import AccountCalls
from periflow_sdk.api.calls.agent import AgentCalls
from periflow_sdk.api.calls.checkpoint import CheckpointCalls
from periflow_sdk.api.calls.credential import CredentialCalls
from periflow_sdk.api.calls.dataset import DatasetCalls
from periflow_sdk.api.calls.job import JobCalls
from periflow_sdk.api.calls.notification import NotificationCalls
from periflow_sdk.api.calls.organization import OrganizationCalls
from periflow_sdk.api.calls.project import ProjectCalls
from periflow_sdk.api.calls.snapshot import SnapshotCalls


class ApiClient(
    AccountCalls,
    OrganizationCalls,
    ProjectCalls,
    SnapshotCalls,
    CredentialCalls,
    DatasetCalls,
    JobCalls,
    CheckpointCalls,
    NotificationCalls,
    AgentCalls,
):
    """Talks to one control plane.

    Args:
        url: Address of the control plane, without ``/api/v1``.
        token: A bearer token, or a function that gives the current one.
        timeout_seconds: Bound on connecting and on each read.
        connect_seconds: Bound on connecting alone.
        tries: How often a request that could not be delivered is tried in all.
        on_unauthorized: Called once on a 401; True means that a fresh token is there.
        key_file: The key of an embedded server. No token is sent before whoever answers has
            proven that he holds it, at the start and whenever the connection was lost: another
            user of the machine may sit on the port meanwhile.

    Raises (every method):
        ServerUnreachableError: after the last try.
        ApiError: what the server raised, as the same class.
    """
