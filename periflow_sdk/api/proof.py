"""How an embedded server proves that it is this home's: another user may sit on its port.

The server and a client of the same home share the key file. The client sends a nonce, the server
answers with the HMAC-SHA256 of nonce and port under that key (docs/protocol.md, section 1). The
port is in it, so that a stranger cannot pass on the questions it gets.
"""

from __future__ import annotations

import hmac
import json
import secrets
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any


def proof(key: bytes, nonce: str, port: int | None) -> str:
    """What only a holder of the key can say to a nonce, in hex."""
    return hmac.new(key, f"periflow-server:{nonce}:{port}".encode(), "sha256").hexdigest()


def is_proof(text: object, key: bytes, nonce: str, port: int | None) -> bool:
    """Whether an answer to a nonce proves the key."""
    return hmac.compare_digest(proof(key, nonce, port), str(text))


def new_nonce() -> str:
    """A question that was never asked before."""
    return secrets.token_hex(16)


def read_key(path: Path) -> bytes:
    """The key in a key file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no key.
    """
    return bytes.fromhex(path.read_text(encoding="ascii").strip())


def ask_proven(port: int, key_file: Path, timeout_seconds: float) -> dict[str, Any] | None:
    """What the server on a loopback port says of itself; None if it is not the key's, or silent."""
    nonce = new_nonce()
    answer = _get(port, f"/api/v1/server?nonce={nonce}", timeout_seconds)
    try:
        key = read_key(key_file)
    except (FileNotFoundError, ValueError):
        return None
    return answer if answer and is_proof(answer.get("proof"), key, nonce, port) else None


def _get(port: int, path: str, timeout_seconds: float) -> dict[str, Any] | None:
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout_seconds)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        answer = json.loads(response.read(65536)) if response.status == 200 else None
    except (OSError, HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return answer if isinstance(answer, dict) else None
