"""AWS S3, and what speaks its language."""

from __future__ import annotations

from typing import TYPE_CHECKING

from periflow_sdk.api.models import S3CredentialCreate
from periflow_server.verification.objectstore import bucket_of_nobody, list_once, options

if TYPE_CHECKING:
    from obstore.store import S3Credential, S3Store

_WELCOME = ("NoSuchBucket", "AccessDenied")


def check(body: S3CredentialCreate, url: str | None) -> None:
    """Make a signed list call.

    Args:
        url: Another store than that of AWS.

    Raises:
        InvalidRequestError: see ``verification.check``.
    """
    region = body.aws_default_region
    address = url or f"https://s3.{region}.amazonaws.com{'.cn' if region[:3] == 'cn-' else ''}"

    # A provider, and not the key itself: what the server's own environment has of such variables
    # (a session's token, say) would be added to it.
    def key() -> S3Credential:
        return {
            "access_key_id": body.aws_access_key_id.get_secret_value(),
            "secret_access_key": body.aws_secret_access_key.get_secret_value(),
            "token": None,
            "expires_at": None,
        }

    def open_store() -> S3Store:
        from obstore.store import S3Store

        return S3Store(
            bucket_of_nobody(),
            aws_endpoint_url_s3=address,
            region=region,
            skip_signature=False,
            virtual_hosted_style_request=False,
            credential_provider=key,
            **options(address),
        )

    list_once("AWS S3", open_store, _WELCOME)
