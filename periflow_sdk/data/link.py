"""A link to a bucket: its address for fsspec, and what tells it from others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from periflow_sdk.api.models import DatasetLink

_SCHEMES = {"s3": "s3", "azure-blob": "az", "gcs": "gs"}


def identity(link: DatasetLink, secret: Mapping[str, str]) -> str:
    """The same for the same objects; an account of Azure is named by its credential alone."""
    place = link.model_dump(include={"cloud", "storage_name", "prefix", "endpoint_url"})
    return json.dumps([place, secret.get("storage_account_name")], sort_keys=True)


def address(link: DatasetLink, secret: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The url of a link, and the options that s3fs, adlfs or gcsfs want with it."""
    path = "/".join(part for part in (link.storage_name, (link.prefix or "").strip("/")) if part)
    options = {"s3": _s3, "azure-blob": _azure, "gcs": _gcs}[link.cloud](link, secret)
    return f"{_SCHEMES[link.cloud]}://{path}", options


def _s3(link: DatasetLink, secret: Mapping[str, str]) -> dict[str, Any]:
    region = link.region or secret.get("aws_default_region")
    options: dict[str, Any] = {
        "key": secret["aws_access_key_id"],
        "secret": secret["aws_secret_access_key"],
        "client_kwargs": {"region_name": region} if region else {},
    }
    if link.endpoint_url:
        options["endpoint_url"] = link.endpoint_url
    return options


def _azure(link: DatasetLink, secret: Mapping[str, str]) -> dict[str, Any]:
    account, key = secret["storage_account_name"], secret["storage_account_key"]
    if not link.endpoint_url:
        return {"account_name": account, "account_key": key}
    url = link.endpoint_url.replace("{account}", account)
    scheme = url.partition(":")[0]
    return {
        "connection_string": f"DefaultEndpointsProtocol={scheme};AccountName={account};"
        f"AccountKey={key};BlobEndpoint={url};"
    }


def _gcs(link: DatasetLink, secret: Mapping[str, str]) -> dict[str, Any]:
    options: dict[str, Any] = {"token": json.loads(secret["service_account_key"])}
    if link.endpoint_url:
        options["endpoint_url"] = link.endpoint_url
    return options
