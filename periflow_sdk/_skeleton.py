"""A state taken apart into what torch.load reads as ``data.pkl`` and the storages it names."""

from __future__ import annotations

import io
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mmap import mmap

_PROTOCOL = 2  # what torch.save writes and weights_only=True reads


class Skeleton(NamedTuple):
    """A pickled state without the bytes of its tensors; storage n has the key ``str(n)``."""

    data: bytes
    storages: list[Any]

    @property
    def sizes(self) -> list[int]:
        """Bytes of each storage."""
        return [storage.nbytes() for storage in self.storages]


class UnfitStateError(Exception):
    """torch.save has to deal with this state, or to say what is wrong with it."""


def take_apart(state: object) -> Skeleton:
    """Pickle a state as torch.save does, its storages set aside.

    Raises:
        UnfitStateError: A storage is viewed as two types, or this torch keeps storages otherwise.
    """
    torch = _torch()
    location_tag = torch.serialization.location_tag
    keys: dict[int, str] = {}
    storages: list[Any] = []
    types: dict[int, Any] = {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
            if isinstance(obj, torch.storage.TypedStorage):
                storage, dtype, length = obj._untyped_storage, obj.dtype, obj._size()
                kind = getattr(torch, obj._pickle_storage_type())
            elif torch.is_storage(obj):
                storage, dtype, length = obj, torch.uint8, obj.nbytes()
                kind = torch.serialization.normalize_storage_type(type(obj))
            else:
                return None
            if storage.device.type == "meta":
                raise UnfitStateError("a tensor without data")
            address = storage.data_ptr()
            if address and types.setdefault(address, dtype) != dtype:
                raise UnfitStateError("a storage is viewed as two types")
            key = keys.setdefault(storage._cdata, str(len(keys)))
            if len(keys) > len(storages):
                storages.append(storage)
            return ("storage", kind, key, location_tag(storage), length)

    buffer = io.BytesIO()
    try:
        Pickler(buffer, protocol=_PROTOCOL).dump(state)
    except AttributeError as error:
        raise UnfitStateError(str(error)) from error
    return Skeleton(buffer.getvalue(), storages)


def memory_tensor(memory: mmap) -> Any:
    """The map as a tensor of bytes, pinned where CUDA is in use."""
    torch = _torch()

    tensor = torch.frombuffer(memory, dtype=torch.uint8)
    if torch.cuda.is_initialized():
        # Where it is refused, copies take the slow way and are right all the same.
        torch.cuda.cudart().cudaHostRegister(tensor.data_ptr(), tensor.numel(), 0)
    return tensor


def release(tensor: Any) -> None:
    """Unpin what memory_tensor() gave."""
    torch = _torch()

    if tensor is not None and torch.cuda.is_initialized():
        torch.cuda.cudart().cudaHostUnregister(tensor.data_ptr())


def copy_storages(storages: list[Any], offsets: list[int], target: Any) -> None:
    """Copy storages to their offsets in a tensor of bytes; it returns when all have arrived."""
    torch = _torch()

    devices = set()
    for storage, offset in zip(storages, offsets, strict=True):
        if not (size := storage.nbytes()):
            continue
        if storage.device.type not in ("cpu", "cuda"):
            storage = storage.cpu()
        source = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
        target[offset : offset + size].copy_(source, non_blocking=True)
        if storage.device.type == "cuda":
            devices.add(storage.device)
    for device in devices:
        torch.cuda.current_stream(device).synchronize()


def _torch() -> Any:
    import torch

    return torch
