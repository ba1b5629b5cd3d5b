"""The machine shapes that jobs can ask for."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache

from periflow_sdk.api import models as m
from periflow_sdk.errors import InvalidRequestError, NotFoundError
from periflow_server.db.attempt import busy_devices
from periflow_server.db.base import Session

_LISTING_TIMEOUT_SECONDS = 10


@dataclass(frozen=True)
class VmShape:
    """A machine shape: ``nodes`` nodes of this machine, real or simulated.

    ``num_devices`` of a job are devices, not nodes. Simulated nodes share the devices of the
    machine with its other shapes.
    """

    name: str
    device: str
    devices_per_node: int
    nodes: int = 1

    @property
    def quota(self) -> int:
        """The devices of all its nodes."""
        return self.devices_per_node * self.nodes

    def nodes_for(self, num_devices: int) -> int:
        """How many nodes so many devices are."""
        return 1 if self.nodes == 1 else num_devices // self.devices_per_node


@lru_cache(maxsize=1)
def shapes() -> dict[str, VmShape]:
    """The shapes of this machine, by name. GPUs are counted once."""
    counts = {"cpu": len(os.sched_getaffinity(0)), "gpu": _gpu_count()}
    found = [VmShape(f"local-{kind}", kind, count) for kind, count in counts.items() if count]
    pairs = [VmShape(f"local-{kind}-pair", kind, 1, 2) for kind, n in counts.items() if n >= 2]
    return {shape.name: shape for shape in [*found, *pairs]}


def shapes_of(device: str) -> list[str]:
    """The names of the shapes that share the devices of this kind."""
    return [shape.name for shape in shapes().values() if shape.device == device]


def free_devices(session: Session, shape: VmShape) -> list[int]:
    """The indices of the devices that a job on this shape could have now."""
    count = max(each.quota for each in shapes().values() if each.device == shape.device)
    return sorted(set(range(count)) - busy_devices(session, shapes_of(shape.device)))


def require_vm(name: str, num_devices: int) -> VmShape:
    """The shape of this name, when it has so many devices at all.

    Raises:
        NotFoundError: there is no such VM type (``vm_unknown``, ``data["vms"]``).
        InvalidRequestError: it never has so many devices (``quota_exceeded``), or they
            are not whole nodes.
    """
    shape = shapes().get(name)
    if shape is None:
        known = list(shapes())
        raise NotFoundError(
            f"There is no VM type {name!r} here, only {', '.join(known)}.",
            code="vm_unknown",
            hint=f"Try `--vm {known[0]} --num-devices {min(num_devices, shapes()[known[0]].quota)}`"
            ", or run `pf vm list`.",
            data={"vm": name, "vms": known},
        )
    if num_devices > shape.quota:
        raise InvalidRequestError(
            f"{name} has {shape.quota} devices; the job asks for {num_devices}.",
            code="quota_exceeded",
            hint=f"Use `--num-devices {shape.quota}`.",
            data={"vm": name, "quota": shape.quota},
        )
    if shape.nodes > 1 and num_devices % shape.devices_per_node:
        whole = -(-num_devices // shape.devices_per_node) * shape.devices_per_node
        raise InvalidRequestError(
            f"A node of {name} has {shape.devices_per_node} devices; {num_devices} are not whole "
            "nodes.",
            hint=f"Use `--num-devices {whole}`.",
            data={"vm": name, "devices_per_node": shape.devices_per_node},
        )
    return shape


def vm_types(session: Session) -> list[m.VmType]:
    """All VM types with what is free of them now."""
    return [
        m.VmType(
            vm=shape.name,
            cloud="local",
            region="-",
            device=shape.device,
            devices_per_node=shape.devices_per_node,
            quota=shape.quota,
            available=min(shape.quota, len(free_devices(session, shape))),
        )
        for shape in shapes().values()
    ]


def _gpu_count() -> int:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return 0
    try:
        listing = subprocess.run(
            [tool, "-L"], capture_output=True, timeout=_LISTING_TIMEOUT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith(b"GPU ") for line in listing.stdout.splitlines())
