"""Keys of object stores: what the real stores say to right and wrong ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from periflow_sdk.api import models as m
from periflow_sdk.errors import InvalidRequestError
from periflow_server.settings import Settings
from periflow_server.verification import check

if TYPE_CHECKING:
    from google_store import Google

S3_KEY, S3_SECRET = "AKIATESTTESTTESTTEST", "the+secret/of+the/key"
# Of the account that every Azurite has; its manual prints it.
AZURE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
NOWHERE = "http://127.0.0.1:1"


def verify(document: dict[str, Any], **settings: str) -> bool:
    body = m.CREDENTIAL_BODIES[document["type"]].model_validate({"name": "key", **document})
    return check(body, Settings.read(**settings), ask=True)


def refusal(document: dict[str, Any], **settings: str) -> tuple[str, str]:
    """The code and text of the error, which has nothing of the secret in it."""
    with pytest.raises(InvalidRequestError) as caught:
        verify(document, **settings)
    told = f"{caught.value.message} {caught.value.hint} {caught.value.data}"
    for name in ("aws_secret_access_key", "storage_account_key", "service_account_key"):
        assert document.get(name, "nothing of it") not in told
    return caught.value.code, caught.value.message


def s3(key: str = S3_KEY, secret: str = S3_SECRET) -> dict[str, Any]:
    fields = {"aws_access_key_id": key, "aws_secret_access_key": secret}
    return {"type": "s3", **fields, "aws_default_region": "us-east-1"}


def azure(account: str = "devstoreaccount1", key: str = AZURE_KEY) -> dict[str, Any]:
    return {"type": "azure-blob", "storage_account_name": account, "storage_account_key": key}


def gcs(key_file: str) -> dict[str, Any]:
    return {"type": "gcs", "service_account_key": key_file}


def test_s3_key_is_taken_by_its_store_alone(s3_url: str) -> None:
    assert verify(s3(), s3_url=s3_url)
    code, message = refusal(s3(secret="another+secret"), s3_url=s3_url)
    assert code == "credential_refused"
    assert "SignatureDoesNotMatch" in message
    code, message = refusal(s3(key="AKIANOBODYKNOWSTHISONE"), s3_url=s3_url)
    assert code == "credential_refused"
    assert "InvalidAccessKeyId" in message


def test_azure_key_is_taken_by_its_account_alone(azure_url: str) -> None:
    assert verify(azure(), azure_blob_url=azure_url)
    other = AZURE_KEY.replace("Eby8", "AAAA")
    assert refusal(azure(key=other), azure_blob_url=azure_url)[0] == "credential_refused"
    assert refusal(azure("another"), azure_blob_url=azure_url)[0] == "credential_refused"


def test_servers_own_environment_has_no_part_in_it(
    s3_url: str, azure_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": S3_KEY,
        "AWS_SECRET_ACCESS_KEY": S3_SECRET,
        "AWS_SESSION_TOKEN": "token",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_ENDPOINT_URL_S3": NOWHERE,
        "AZURE_STORAGE_ACCOUNT_KEY": AZURE_KEY,
        "AZURE_STORAGE_SAS_KEY": "sv=1&sig=x",
        "AZURE_SKIP_SIGNATURE": "true",
        "AZURE_STORAGE_USE_EMULATOR": "true",
    }.items():
        monkeypatch.setenv(name, value)
    assert verify(s3(), s3_url=s3_url)
    assert verify(azure(), azure_blob_url=azure_url)
    assert refusal(s3(secret="another"), s3_url=s3_url)[0] == "credential_refused"
    other = azure(key=AZURE_KEY.replace("Eby8", "AAAA"))
    assert refusal(other, azure_blob_url=azure_url)[0] == "credential_refused"


def test_service_account_signs_in_and_lists_its_buckets(google: Google) -> None:
    urls = {"gcs_url": google.url, "google_token_url": google.token_url}
    google.endpoint.asked.clear()
    assert verify(gcs(google.key_file), **urls)
    paths = [asked.path.partition("?")[0] for asked in google.endpoint.asked]
    assert paths == ["/token", "/storage/v1/b"]


def test_service_account_with_a_wrong_key_is_refused(google: Google) -> None:
    urls = {"gcs_url": google.url, "google_token_url": google.token_url}
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    document = json.loads(google.key_file)
    code, message = refusal(gcs(json.dumps({**document, "private_key": other.decode()})), **urls)
    assert code == "credential_refused"
    assert "invalid_grant" in message
    broken = json.dumps({**document, "private_key": "-----BEGIN PRIVATE KEY-----\nno"})
    assert refusal(gcs(broken), **urls)[0] == "credential_refused"


def test_store_that_does_not_answer_is_no_verdict_on_the_key() -> None:
    assert refusal(s3(), s3_url=NOWHERE)[0] == "verification_unavailable"
    assert refusal(azure(), azure_blob_url=NOWHERE)[0] == "verification_unavailable"


def test_google_that_does_not_answer_is_no_verdict_on_the_key(google: Google) -> None:
    key_file = gcs(google.key_file)
    code, _ = refusal(key_file, gcs_url=google.url, google_token_url=f"{NOWHERE}/token")
    assert code == "verification_unavailable"
    code, _ = refusal(key_file, gcs_url=NOWHERE, google_token_url=google.token_url)
    assert code == "verification_unavailable"
