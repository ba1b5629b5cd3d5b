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
    """A machine shape: ``quota`` devices on one node of this machine."""

    name: str
    device: str
    quota: int


@lru_cache(maxsize=1)
def shapes() -> dict[str, VmShape]:
    """The shapes of this machine, by name. GPUs are counted once."""
    found = [VmShape("local-cpu", "cpu", len(os.sched_getaffinity(0)))]
    if gpus := _gpu_count():
        found.append(VmShape("local-gpu", "gpu", gpus))
    return {shape.name: shape for shape in found}


def require_vm(name: str, num_devices: int) -> VmShape:
    """The shape of this name, when it has so many devices at all.

    Raises:
        NotFoundError: there is no such VM type (``vm_unknown``, ``data["vms"]``).
        InvalidRequestError: it never has so many devices (``quota_exceeded``).
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
    return shape


def vm_types(session: Session) -> list[m.VmType]:
    """All VM types with what is free of them now."""
    return [
        m.VmType(
            vm=shape.name,
            cloud="local",
            region="-",
            device=shape.device,
            devices_per_node=shape.quota,
            quota=shape.quota,
            available=max(0, shape.quota - len(busy_devices(session, shape.name))),
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
