"""A folder of the bucket as a linked dataset, without the server that would name it."""

from __future__ import annotations

from pathlib import Path

from data import BUCKET, KEY, SECRET

from periflow_sdk.api.models import DatasetLink
from periflow_sdk.data import Dataset
from periflow_sdk.data.cache import Cache
from periflow_sdk.data.fetcher import Fetcher
from periflow_sdk.data.link import address, identity
from periflow_sdk.data.linked import LinkedSource


def bucket_dataset(url: str, folder: str, cache: Path) -> Dataset:
    """What `pf.dataset` gives for a link to a folder of the bucket."""
    link = DatasetLink(
        cloud="s3",
        storage_name=BUCKET,
        prefix=f"{folder}/",
        endpoint_url=url,
        region="us-east-1",
        credential_id="benchmark",
    )
    secret = {
        "aws_access_key_id": KEY,
        "aws_secret_access_key": SECRET,
        "aws_default_region": "us-east-1",
    }
    source = LinkedSource(
        identity(link, secret), Fetcher(link, secret), Cache(cache), address(link, secret)
    )
    return Dataset(folder, source)
