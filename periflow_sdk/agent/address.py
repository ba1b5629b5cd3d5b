"""Where other nodes of the gang reach this one."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit

from periflow_sdk.api.models import AgentRegister


def registration(url: str, port: int) -> AgentRegister:
    """What this agent registers: the address it has towards the control plane, and a free port.

    Args:
        url: Address of the control plane.
        port: The port registered before, or 0.
    """
    address = _own_address(url)
    return AgentRegister(
        hostname=socket.gethostname(),
        address=address,
        port=port or _free_port(address),
        pid=os.getpid(),
    )


def _own_address(url: str) -> str:
    parts = urlsplit(url)
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            # A datagram socket sends nothing on connect; it only picks the route.
            probe.connect((parts.hostname or "127.0.0.1", parts.port or 80))
            return str(probe.getsockname()[0])
    except OSError:
        return "127.0.0.1"


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
