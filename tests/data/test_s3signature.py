"""What is said to an S3 store about who asks."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from periflow_sdk.data.s3signature import S3Signature, quoted

NAMES = ["plain/000001.bin", "a b/ü+%41&=?#;:@!$'()*,[]~", "a//b/../c", "日本/\u007f\t"]


@pytest.mark.parametrize("name", NAMES)
def test_signature_is_the_one_that_amazons_own_library_makes(name: str) -> None:
    target = f"/bucket/{quoted(name)}"
    assert unquote(target) == f"/bucket/{name}"
    signature = S3Signature("host:8333", "eu-north-1", "key", "se/cr+et")
    for now in ("20261231T235959Z", "20270101T000000Z"):
        lines = signature.header(target, now).split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[:-1])
        request = AWSRequest("GET", f"http://host:8333{target}", headers={**headers})
        del request.headers["Authorization"]
        request.context |= {"timestamp": now, "payload_signing_enabled": False}
        auth = S3SigV4Auth(Credentials("key", "se/cr+et"), "s3", "eu-north-1")
        text = auth.string_to_sign(request, auth.canonical_request(request))
        assert headers["Authorization"].endswith(f"Signature={auth.signature(text, request)}")
        assert f"Credential={auth.scope(request)}," in headers["Authorization"]
