"""One request to a cloud, tried a few times; nothing of the answer is believed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from xml.etree import ElementTree

from periflow_server.bucket.fault import busy, not_understood, unreachable
from periflow_server.bucket.place import Place
from periflow_server.outbound import Answer, NotSentError, OutcomeUnknownError, get

_TRIES = 3
_SECONDS = 8.0
"""After so many nothing is tried again: a service that does not answer has somebody waiting."""
_MOST_BYTES = 16 << 20
"""Of an answer: 5,000 objects with names of 1,024 bytes, and what stands around them."""


def ask(place: Place, url: str, headers: Mapping[str, str], *, private: bool) -> Answer:
    """GET from the service of a place; what asks for patience or fails is tried again.

    Args:
        private: Whether the address may be one of the server's own network.

    Raises:
        InvalidRequestError: ``storage_unreachable``, ``storage_busy``, or ``address_refused``.
    """
    deadline = time.monotonic() + _SECONDS
    for tried in range(1, _TRIES + 1):
        try:
            answer = get(url, headers, private=private, most_bytes=_MOST_BYTES)
        except (NotSentError, OutcomeUnknownError) as error:
            is_refused = error.code == "address_refused"
            if is_refused or tried == _TRIES or time.monotonic() > deadline:
                raise unreachable(place, error) from error
        else:
            if answer.status < 500 and answer.status != 429:
                return answer
            if tried == _TRIES or time.monotonic() > deadline:
                raise busy(place, answer.status)
        time.sleep(0.2 * 2**tried)
    raise AssertionError("unreachable")


def xml_of(place: Place, body: bytes) -> ElementTree.Element:
    """An answer in XML, its names without name spaces.

    Raises:
        InvalidRequestError: it is none (``storage_unreachable``).
    """
    # A document type is what bombs are made of; no service sends one.
    if b"<!DOCTYPE" in body[:4096] or b"<!ENTITY" in body:
        raise not_understood(place)
    try:
        root = ElementTree.fromstring(body.removeprefix(b"\xef\xbb\xbf"))
    except ElementTree.ParseError:
        raise not_understood(place) from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def size_of(place: Place, text: str | None) -> int:
    """The size that an answer says something has; 0 where it says none.

    Raises:
        InvalidRequestError: it is no number of bytes (``storage_unreachable``).
    """
    digits = (text or "0").strip()
    if not (digits.isascii() and digits.isdecimal() and len(digits) < 19):
        raise not_understood(place)
    return int(digits)


def error_code(body: bytes) -> tuple[str, str]:
    """The code and the text of an answer in XML that says no; empty where there is none."""
    if b"<!" in body:
        return "", ""
    try:
        root = ElementTree.fromstring(body.removeprefix(b"\xef\xbb\xbf"))
    except ElementTree.ParseError:
        return "", ""
    found = {each.tag.rpartition("}")[2]: (each.text or "").strip() for each in root}
    return found.get("Code", ""), " ".join(found.values())
