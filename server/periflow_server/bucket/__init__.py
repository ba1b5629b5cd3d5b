"""Buckets of others: what lies in them, and signed URLs of it, for the datasets linked to them.

    bucket = open_bucket(place, settings)
    page = bucket.page("train", recursive=False, cursor=None, limit=100)
    urls = bucket.sign(["train/0001.png"], expires_at)

All requests are made by ``outbound``, so an address that a user gave leads to nothing private, and
no library takes keys or addresses out of the server's own environment. Nothing is kept between
calls: a page is as large as was asked for, however large the bucket.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from periflow_server.bucket.page import LinkedBucket
from periflow_server.bucket.place import Place, check_endpoint

if TYPE_CHECKING:
    from periflow_server.bucket.page import CloudBucket
    from periflow_server.settings import Settings

__all__ = ["Place", "open_bucket"]


def open_bucket(place: Place, settings: Settings, *, to_sign: bool = False) -> LinkedBucket:
    """The bucket of a link; nobody is asked anything yet.

    Args:
        to_sign: It will be asked nothing, so where its address leads is not looked up.

    Raises:
        InvalidRequestError: the address of the service cannot be one (``invalid_endpoint``), or
            is a private one (``address_refused``).
    """
    if place.endpoint_url:
        check_endpoint(place.endpoint_url, private=settings.private_addresses, looks_up=not to_sign)
    return LinkedBucket(_cloud_bucket(place, settings), place.base)


def _cloud_bucket(place: Place, settings: Settings) -> CloudBucket:
    match place.cloud:
        case "s3":
            from periflow_server.bucket.s3 import S3Bucket

            return S3Bucket(place, settings)
        case "azure-blob":
            from periflow_server.bucket.azure import AzureBucket

            return AzureBucket(place, settings)
        case "gcs":
            from periflow_server.bucket.gcs import GcsBucket

            return GcsBucket(place, settings)
