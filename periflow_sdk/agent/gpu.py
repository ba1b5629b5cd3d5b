"""NVIDIA's GPUs, asked through nvidia-ml-py where that is installed."""

from __future__ import annotations

import importlib
import logging
import shutil
from pathlib import Path
from typing import Any

from periflow_sdk.api.models import Gpu

_log = logging.getLogger(__name__)


class Gpus:
    """The GPUs of this machine; none without a driver, and none without the library.

    What a GPU does not answer is left out: some have no memory of their own, and parts of one
    that is shared have no utilisation.

    Args:
        library: The module ``pynvml``, initialized; None for no GPUs.
    """

    def __init__(self, library: Any | None) -> None:
        self._library = library

    @classmethod
    def find(cls) -> Gpus:
        """Those that the driver and the library show."""
        if not _has_driver():
            return cls(None)
        try:
            library = importlib.import_module("pynvml")
            library.nvmlInit()
        except ImportError:
            _log.warning("GPUs are not measured: pip install 'periflow_sdk[gpu]'")
            return cls(None)
        except Exception as error:
            _log.warning("GPUs are not measured: %s", error)
            return cls(None)
        return cls(library)

    def describe(self) -> list[Gpu]:
        """Name and memory of each."""
        found = []
        for handle in self._handles().values():
            name = self._ask("nvmlDeviceGetName", handle)
            memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
            if name is not None:
                text = name.decode() if isinstance(name, bytes) else str(name)
                found.append(Gpu(name=text, memory_bytes=int(memory.total) if memory else 0))
        return found

    def sample(self) -> dict[str, float]:
        """What each does now, as metrics: how busy it is in percent, and bytes in use."""
        found: dict[str, float] = {}
        for number, handle in self._handles().items():
            rates = self._ask("nvmlDeviceGetUtilizationRates", handle)
            memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
            if rates is not None:
                found[f"system/gpu{number}_percent"] = rates.gpu
            if memory is not None:
                found[f"system/gpu{number}_memory_bytes"] = memory.used
        return found

    def _handles(self) -> dict[int, Any]:
        count = self._ask("nvmlDeviceGetCount") or 0
        handles = {n: self._ask("nvmlDeviceGetHandleByIndex", n) for n in range(count)}
        return {n: handle for n, handle in handles.items() if handle is not None}

    def _ask(self, question: str, *about: object) -> Any:
        """The answer; None where the driver refuses, as for what a GPU does not have."""
        try:
            return getattr(self._library, question)(*about)
        except Exception:  # NVMLError is a class of the library, which may be missing
            return None


def _has_driver() -> bool:
    return Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None
