"""The file formats that save_checkpoint writes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .errors import MissingExtraError, UsageError

Writer = Callable[[object, Path], None]


def writer_of(file_format: str) -> Writer:
    """The function that writes a state in this format.

    Raises:
        UsageError: The format is unknown.
        MissingExtraError: Its library is not installed.
    """
    if file_format == "torch":
        return _torch_writer()
    if file_format == "safetensors":
        return _safetensors_writer()
    raise UsageError(
        f"save_checkpoint() does not know the format {file_format!r}",
        hint='use format="torch", "safetensors" or "dcp"',
    )


def _torch_writer() -> Writer:
    try:
        import torch
    except ImportError:
        raise MissingExtraError(
            'save_checkpoint(format="torch") needs torch, which is not installed',
            hint="pip install torch",
        ) from None

    def write(state: object, path: Path) -> None:
        try:
            if path.stem.startswith(".") and not path.suffix:
                with path.open("wb") as file:  # torch takes all of such a name for a suffix
                    torch.save(state, file)
            else:
                torch.save(state, path)
        except RuntimeError as error:
            # torch's own writer reports a full disk as a RuntimeError with a C++ location.
            if "inline_container" in str(error) or "PytorchStreamWriter" in str(error):
                raise OSError("the disk is full or cannot be written") from error
            raise

    return write


def _safetensors_writer() -> Writer:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import save_file
    except ImportError:
        raise MissingExtraError(
            'save_checkpoint(format="safetensors") needs safetensors, which is not installed',
            hint="pip install safetensors torch",
        ) from None

    def write(state: object, path: Path) -> None:
        if not isinstance(state, dict):
            raise UsageError(
                'save_checkpoint(format="safetensors") takes a dictionary of tensors',
                hint='use model.state_dict(), or format="torch" for anything else',
            )
        try:
            save_file(state, path)
        except SafetensorError as error:
            raise OSError(str(error)) from error

    return write
