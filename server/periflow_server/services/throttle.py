"""Rate limits: how often something may be tried by, or about, an account or an address.

    throttle.take(session, Limited.LOGIN, account="ada", address="192.0.2.7", factor=1.0)

Each limit lets a number of tries through at once and one more every so many seconds. Tries count
for the account from this address, for the account from anywhere (more patient, or strangers could
lock people out) and for the address, whichever account it is after. They are kept in the database,
for all servers together; what people typed is not.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv6Address, ip_address, ip_network

from periflow_sdk.errors import RateLimitedError
from periflow_server.db import throttle as db
from periflow_server.db.base import Session, utcnow


class Limited(StrEnum):
    """What is limited."""

    LOGIN = "login"
    PASSWORD = "password"
    SIGNUP = "signup"
    CODE = "code"
    RESET = "reset"
    INVITE = "invite"
    MAIL = "mail"
    NOTIFY = "notify"


@dataclass(frozen=True)
class Rate:
    """So many at once, and one more every so many seconds."""

    burst: int
    seconds: float


_PER_ACCOUNT = {
    Limited.LOGIN: Rate(10, 30),
    Limited.PASSWORD: Rate(10, 30),
    Limited.SIGNUP: Rate(10, 60),
    Limited.CODE: Rate(20, 30),
    Limited.RESET: Rate(5, 120),
    Limited.INVITE: Rate(100, 20),
    Limited.MAIL: Rate(10, 300),
    Limited.NOTIFY: Rate(20, 10),
}
"""Of one account from one address; from all addresses together ten times as many (but mails)."""
_PER_ADDRESS = {
    Limited.LOGIN: Rate(100, 3),
    Limited.PASSWORD: Rate(100, 3),
    Limited.SIGNUP: Rate(60, 30),
    Limited.CODE: Rate(100, 5),
    Limited.RESET: Rate(30, 30),
    Limited.INVITE: Rate(200, 10),
    Limited.MAIL: Rate(200, 10),
    Limited.NOTIFY: Rate(200, 5),
}
_FROM_ANYWHERE = 10
_TIDY_BELOW = 8  # of 256: what a digest begins with decides who tidies


def take(
    session: Session, what: Limited, *, account: str, address: str | None, factor: float
) -> None:
    """Use up one try.

    Args:
        account: Whose login, code or mailbox it is about, or who does it.
        address: Where the request comes from; None where addresses say nothing.
        factor: How many times the usual tries are let through; 0 lets all through.

    Raises:
        RateLimitedError: none is left; ``data`` has ``retry_after_seconds``.
    """
    if factor <= 0:
        return
    rates = _rates(what, account, address)
    now = utcnow()
    _tidy(session, next(iter(rates)))
    rows = db.locked_throttles(session, list(rates), now)
    wait = 0.0
    for key, rate in rates.items():
        free_at = max(rows[key].free_at, now) + timedelta(seconds=rate.seconds)
        allowed = max(1, round(rate.burst * factor)) * rate.seconds
        wait = max(wait, (free_at - now).total_seconds() - allowed)
        rows[key].free_at = free_at
    if wait > 0:
        raise _refusal(what, math.ceil(wait))


def give_back(session: Session, what: Limited, *, account: str, address: str | None) -> None:
    """The account's owner was there: forget his earlier tries from this address."""
    db.forget_throttle(session, _key(what, "account", account, _network(address)))


def _rates(what: Limited, account: str, address: str | None) -> dict[str, Rate]:
    usual = _PER_ACCOUNT[what]
    network = _network(address)
    rates = {_key(what, "account", account, network): usual}
    if address is not None:
        more = 1 if what is Limited.MAIL else _FROM_ANYWHERE  # a mailbox can take no more
        anywhere = Rate(usual.burst * more, usual.seconds / more)
        rates[_key(what, "account", account, "")] = anywhere
        rates[_key(what, "address", network)] = _PER_ADDRESS[what]
    return rates


def _key(what: Limited, *parts: str) -> str:
    text = "\0".join((what, *parts)).casefold()
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _network(address: str | None) -> str:
    """What belongs to one customer: of IPv6 he has a whole /64."""
    if address is None:
        return ""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ip_network((parsed, 64), strict=False))
    return str(parsed)


def _tidy(session: Session, key: str) -> None:
    if int(key[:2], 16) < _TIDY_BELOW:
        db.forget_free_throttles(session, utcnow())


_WORDS = {
    Limited.LOGIN: "tries to log in",
    Limited.PASSWORD: "tries of the password",
    Limited.SIGNUP: "signups",
    Limited.CODE: "tries of a code",
    Limited.RESET: "password resets",
    Limited.INVITE: "invitations",
    Limited.MAIL: "mails to this address",
}


def _refusal(what: Limited, seconds: int) -> RateLimitedError:
    patience = f"{seconds} seconds" if seconds < 120 else f"{math.ceil(seconds / 60)} minutes"
    return RateLimitedError(
        f"Too many {_WORDS[what]}.",
        hint=f"Try again in {patience}.",
        data={"retry_after_seconds": seconds},
    )
