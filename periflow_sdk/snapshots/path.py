"""Which paths and link targets a manifest may hold: nothing that could leave its folder."""

from __future__ import annotations

from periflow_sdk.errors import UnsafePathError

_MAX_PATH_BYTES = 4096
_MAX_PART_BYTES = 255


def check_path(path: str) -> None:
    """Refuse a path that is not plain, relative and inside its folder.

    Raises:
        UnsafePathError: it is absolute, has ``..``, ``.``, an empty part, a backslash, a NUL or
            bytes that are not UTF-8, or is too long.
    """
    if fault := _path_fault(path):
        raise UnsafePathError(f"The path {path!r} {fault}.", data={"path": path})


def is_safe_path(path: str) -> bool:
    """Whether check_path() lets it pass."""
    return _path_fault(path) is None


def check_link(path: str, target: str) -> None:
    """Refuse a link that could lead out of the folder.

    ``..`` may only come first in the target: the link's own folder is a real one, so leading
    ``..`` go where they seem to go; behind another name they might climb out of a linked folder.

    Raises:
        UnsafePathError: the target is absolute, leaves the folder or has ``..`` in the middle.
    """
    if fault := _link_fault(path, target):
        raise UnsafePathError(
            f"The link {path!r} to {target!r} {fault}.", data={"path": path, "target": target}
        )


def _path_fault(path: str) -> str | None:
    if not path:
        return "is empty"
    if fault := _text_fault(path, _MAX_PATH_BYTES):
        return fault
    if path.startswith("/"):
        return "is absolute"
    for part in path.split("/"):
        if part in ("", ".", ".."):
            return "leaves its folder" if part == ".." else "is not a plain relative path"
        if len(part) > _MAX_PART_BYTES // 4 and len(part.encode()) > _MAX_PART_BYTES:
            return "has a name that is too long"
    return None


def _link_fault(path: str, target: str) -> str | None:
    if not target:
        return "has no target"
    if fault := _text_fault(target, _MAX_PATH_BYTES):
        return fault
    if target.startswith("/"):
        return "is absolute"
    depth = path.count("/")
    plain = False
    for part in target.split("/"):
        if part == "..":
            depth -= 1
            if plain:
                return "has `..` behind another name"
            if depth < 0:
                return "leaves the folder"
        elif part not in ("", "."):
            plain = True
    return None


def _text_fault(text: str, limit: int) -> str | None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return "is not UTF-8"
    if "\0" in text:
        return "has a NUL"
    if "\\" in text:
        return "has a backslash"
    return "is too long" if size > limit else None
