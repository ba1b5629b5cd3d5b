"""Secrets at rest: sealed under the server's key, each bound to the row that holds it.

A table that keeps secrets has a column ``sealed`` and an ``id``; ``rotate`` finds them by that.
A sealed text is ``v1.<key id>.<nonce and ciphertext>`` (AES-256-GCM, base64url). Its associated
data is the key id and the row's id: moved to another row it does not open.
"""

from __future__ import annotations

import hmac
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from typing import TYPE_CHECKING

from periflow_sdk.errors import PeriFlowError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from periflow_server.settings import Settings

_FORM = "v1"
_NONCE_BYTES = 12


class VaultError(PeriFlowError):
    """A secret cannot be opened: another key has sealed it, or it was changed."""

    default_code = "vault"


class Vault:
    """Seals with one key, opens with that and those before it.

    Args:
        key: The server's secret.
        old_keys: Secrets it had before, until ``pf-server admin rotate-keys`` has been run.
    """

    def __init__(self, key: bytes, old_keys: Sequence[bytes] = ()) -> None:
        self._secrets = {key_id(secret): secret for secret in (*old_keys, key)}
        self.key_id = key_id(key)

    @classmethod
    def of(cls, settings: Settings) -> Vault:
        """The vault of a server."""
        return cls(settings.key, settings.old_keys)

    def seal(self, row_id: str, plaintext: bytes) -> str:
        """The text to keep in the row of this id."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._cipher(self.key_id).encrypt(nonce, plaintext, _bond(self.key_id, row_id))
        return f"{_FORM}.{self.key_id}.{urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, row_id: str, sealed: str) -> bytes:
        """What was sealed for the row of this id.

        Raises:
            VaultError: no key we have sealed it (``vault_key_missing``), or it is not what was
                sealed for this row (``vault_damaged``).
        """
        from cryptography.exceptions import InvalidTag

        form, _, rest = sealed.partition(".")
        used, _, text = rest.partition(".")
        if form == _FORM and used not in self._secrets:
            raise VaultError(
                "A stored secret was sealed under a key that this server does not have.",
                code="vault_key_missing",
                hint="Give the former key in PERIFLOW_SERVER_OLD_SECRET_KEYS.",
                data={"key_id": used},
            )
        try:
            data = urlsafe_b64decode(text)
            nonce, ciphertext = data[:_NONCE_BYTES], data[_NONCE_BYTES:]
            return self._cipher(used).decrypt(nonce, ciphertext, _bond(used, row_id))
        except (InvalidTag, ValueError, KeyError):
            raise VaultError(
                "A stored secret is damaged, or belongs to another row.",
                code="vault_damaged",
                hint="Update it with its value, or restore a backup.",
            ) from None

    def is_current(self, sealed: str) -> bool:
        """Whether the newest key has sealed this."""
        return sealed.startswith(f"{_FORM}.{self.key_id}.")

    def _cipher(self, used: str) -> AESGCM:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        # Not the secret itself: it signs URLs and proves the server as well.
        return AESGCM(hmac.digest(self._secrets[used], b"periflow-vault", "sha256"))


def key_id(secret: bytes) -> str:
    """What a key goes by in sealed texts; says nothing of the key."""
    return hmac.digest(secret, b"periflow-vault-id", "sha256").hex()[:12]


def _bond(used: str, row_id: str) -> bytes:
    return f"periflow:{_FORM}:{used}:{row_id}".encode()
