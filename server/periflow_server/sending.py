"""One try to send a message, and what its answer means.

Whoever answers 2xx has the message. 408, 425, 429 and 5xx say that he does not, and it is sent
again; any other answer is final. No answer at all may mean either, and is final too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from periflow_server.outbound import Answer, NotSentError, OutcomeUnknownError, post
from periflow_server.services.delivery import Outcome
from periflow_server.services.parcel import Parcel

_LATER = frozenset({408, 425, 429})
# Slack answers 200 with an error's name. `fatal_error` says that a part of it may have been done.
_SLACK_LATER = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "service_unavailable", "team_added_to_org"}
)
_SLACK_UNKNOWN = frozenset({"fatal_error", "request_timeout"})


def send(parcel: Parcel, *, private: bool) -> Outcome:
    """Send once.

    Args:
        private: Whether addresses that users gave may be private ones.
    """
    try:
        answer = post(parcel.url, parcel.headers, parcel.body, private=private or parcel.is_api)
    except NotSentError as error:
        is_final = error.code == "address_refused"
        return Outcome("failed" if is_final else "retry", error.message)
    except OutcomeUnknownError as error:
        return Outcome("unknown", error.message)
    if parcel.is_api and answer.status == 200:
        return _read_slack(answer)
    return _read_status(answer)


def _read_status(answer: Answer) -> Outcome:
    status = answer.status
    if 200 <= status < 300:
        return Outcome("sent")
    if status in _LATER or status >= 500:
        return Outcome("retry", f"it answered {status}", _seconds(answer.headers))
    if 300 <= status < 400:
        return Outcome("failed", f"it answered {status}, and redirects are not followed")
    return Outcome("failed", f"it answered {status}")


def _read_slack(answer: Answer) -> Outcome:
    try:
        document = json.loads(answer.body)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        return Outcome("unknown", "it did not answer as Slack does")
    if document.get("ok") is True:
        return Outcome("sent")
    name = str(document.get("error") or "no reason")[:80]
    if name in _SLACK_LATER:
        return Outcome("retry", f"Slack answered {name}", _seconds(answer.headers))
    if name in _SLACK_UNKNOWN:
        return Outcome("unknown", f"Slack answered {name}")
    return Outcome("failed", f"Slack answered {name}")


def _seconds(headers: Mapping[str, str]) -> float | None:
    try:
        return max(0.0, float(headers.get("retry-after", "")))
    except ValueError:
        return None
