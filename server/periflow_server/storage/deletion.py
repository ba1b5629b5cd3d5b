"""Removing objects one by one, where a store has no request for many."""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

from periflow_server.storage.fault import StoreError

_AT_ONCE = 16


def delete_each(keys: Collection[str], delete: Callable[[str], None]) -> None:
    """Remove several at once; of a store that fails no more is asked.

    Raises:
        StoreError: what the first that failed has said.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        try:
            for _ in pool.map(delete, keys):
                pass
        except StoreError:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
