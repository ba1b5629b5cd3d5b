"""VM types."""

from __future__ import annotations

from periflow_sdk.api.models.wire import Wire


class VmType(Wire):
    vm: str
    cloud: str
    region: str
    device: str
    devices_per_node: int
    quota: int
    available: int
