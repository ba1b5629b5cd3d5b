"""Parts of a file by signed addresses, whose time may be over."""

from __future__ import annotations

import itertools
import threading
from types import SimpleNamespace
from typing import Any

from cloud import Asked, Endpoint

from periflow_sdk.data import signed
from periflow_sdk.data.source import DataFile


def test_threads_whose_addresses_expire_at_once_get_new_ones(
    endpoint: Endpoint, monkeypatch: Any
) -> None:
    monkeypatch.setattr(signed.time, "sleep", lambda _: None)
    all_refused = threading.Barrier(signed._AT_ONCE)
    numbers = itertools.count()

    def sign(_: str, __: str, paths: list[str]) -> list[Any]:
        number = next(numbers)
        return [SimpleNamespace(path=path, url=f"{endpoint.url}/{number}") for path in paths]

    def answer(asked: Asked) -> tuple[int, bytes]:
        if asked.path == "/0":
            all_refused.wait(90)
            return 403, b"expired"
        return 200, b"part"

    endpoint.answer = answer
    client: Any = SimpleNamespace(dataset_sources=sign)
    bucket = signed.SignedBucket(lambda: client, "project", "dataset", "s3")
    file = DataFile("large", 4, "etag")
    parts = [bucket.read(file, 0, 4) for _ in range(signed._AT_ONCE)]
    assert [part.result(90) for part in parts] == [b"part"] * signed._AT_ONCE
    assert next(numbers) == 2, "each thread had it signed for itself"
