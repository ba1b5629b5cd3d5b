"""Azure Blob Storage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from periflow_sdk.api.models import AzureBlobCredentialCreate
from periflow_server.verification.objectstore import bucket_of_nobody, list_once, options

if TYPE_CHECKING:
    from obstore.store import AzureAccessKey, AzureStore

_WELCOME = ("ContainerNotFound", "AuthorizationPermissionMismatch")


def check(body: AzureBlobCredentialCreate, url: str) -> None:
    """Make a signed list call.

    Args:
        url: Where accounts are; ``{account}`` stands for the account's name.

    Raises:
        InvalidRequestError: see ``verification.check``.
    """
    account = body.storage_account_name
    address = url.replace("{account}", account)

    # A provider, and not the key itself: what the server's own environment has of such variables
    # (a SAS token, say) would come before it.
    def key() -> AzureAccessKey:
        return {
            "access_key": body.storage_account_key.get_secret_value(),
            "expires_at": None,
        }

    def open_store() -> AzureStore:
        from obstore.store import AzureStore

        return AzureStore(
            bucket_of_nobody(),
            account_name=account,
            endpoint=address,
            use_emulator=False,
            skip_signature=False,
            credential_provider=key,
            **options(address),
        )

    list_once(f"Azure Blob Storage (account {account})", open_store, _WELCOME)
