"""Files that the worker holds with read leases: who opens one to write waits for its copy."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path

SOCKET = "lease.sock"
LEAST_BYTES = 8 * 1024 * 1024  # below it a copy is as quick
LONGEST_REQUEST = 64 * 1024
_ANSWER_SECONDS = 0.1


def hold(run_dir: Path, upload_id: str, files: Mapping[str, tuple[int, int, int]]) -> bool:
    """Have the worker hold files and copy them; False where they have to be copied here.

    Args:
        upload_id: The folder below ``.periflow`` that they are copied into.
        files: Path below the checkpoint folder → size, mtime in ns, inode.
    """
    request = json.dumps({"id": upload_id, "files": files}).encode()
    if len(request) > LONGEST_REQUEST:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as line:
        line.settimeout(_ANSWER_SECONDS)
        try:
            line.connect(str(run_dir / SOCKET))
            line.send(request)
            if line.recv(16) != b"held":
                return False
            line.send(b"go")  # without it the worker lets go
        except OSError:
            return False
    return True
