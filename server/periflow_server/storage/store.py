"""What the server asks of a store of objects, whatever that is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

Method = Literal["GET", "PUT"]
ANSWER_SECONDS = 20
"""How long a store may take to answer, tries included. Clients wait for the server for thirty: they
shall hear that it is the store which does not answer."""


@dataclass(frozen=True)
class SignedUrl:
    """An address at which a client may do one thing; ``headers`` have to be sent along."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Store(Protocol):
    """Objects by key; every method may be called from any thread.

    What a store on a network refuses or fails to do is a ``StoreError``; what it fails to do for
    a moment only has been tried again before.
    """

    def put_bytes(self, key: str, data: bytes) -> None:
        """Write the object whole, replacing what was there."""

    def get_bytes(self, key: str) -> bytes:
        """Read the object.

        Raises:
            FileNotFoundError: there is no such object.
        """

    def sizes(self, folder: str, keys: Collection[str], known: Callable[[], int]) -> dict[str, int]:
        """The sizes in bytes of those of the objects that are there.

        Args:
            folder: What all the keys begin with, up to a slash.
            known: Tells about how many objects the folder has; asked where that decides.
        """

    def listing(self, folder: str) -> Iterator[tuple[str, int]]:
        """The key and size of every object of a folder."""

    def delete(self, keys: Collection[str]) -> None:
        """Remove the objects; nothing happens about those that are not there."""

    def delete_all(self, folder: str) -> None:
        """Remove all objects of a folder; nothing happens when it is not there."""

    def remove_stale_files(self, age_seconds: float) -> int:
        """Remove what writers who were killed left behind, once it is so old; how many."""

    def sign(
        self, method: Method, key: str, size: int, seconds: int, *, replace: bool
    ) -> SignedUrl | None:
        """Where a client reaches the object without this server; None where it has to ask us.

        Args:
            size: Bytes of the object; nothing else may be PUT, where the store can tell.
            seconds: How long it holds.
            replace: Whether a PUT may replace an object that is there.
        """

    def local_path(self, key: str) -> Path | None:
        """The object's file on this machine, if that is what the store consists of."""
