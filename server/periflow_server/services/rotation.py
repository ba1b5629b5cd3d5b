"""Every sealed text under the newest key."""

from __future__ import annotations

from dataclasses import dataclass, field

from periflow_server.db.base import Session
from periflow_server.db.sealed import replace_sealed, sealed_tables, sealed_texts
from periflow_server.services import audit
from periflow_server.services.vault import Vault, VaultError


@dataclass
class Rotation:
    """How many texts were sealed anew, and in which rows there is one that cannot be opened."""

    renewed: int = 0
    current: int = 0
    lost: list[str] = field(default_factory=list)


def rotate(session: Session, vault: Vault) -> Rotation:
    """Open what an older key has sealed, and seal it with the newest."""
    result = Rotation()
    for table in sealed_tables():
        for id, sealed in sealed_texts(session, table):
            if vault.is_current(sealed):
                result.current += 1
                continue
            try:
                plaintext = vault.open(id, sealed)
            except VaultError:
                result.lost.append(f"{table.name} {id}")
                continue
            replace_sealed(session, table, id, vault.seal(id, plaintext))
            result.renewed += 1
    audit.record(session, actor="admin", action="key.rotate", subject=f"key {vault.key_id}")
    return result
