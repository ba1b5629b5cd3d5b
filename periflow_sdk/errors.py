"""The errors PeriFlow raises.

    PeriFlowError                    anything below
    ├── UsageError                   a call was made the wrong way
    ├── MissingExtraError            an optional library is not installed
    ├── JobFileError                 the job file is wrong, with line and column
    ├── UnsafePathError              a path from others would leave its folder
    ├── CheckpointError              a checkpoint could not be saved or verified
    ├── IntegrityError               bytes differ from what their hash promises
    ├── ServerUnreachableError       no answer from the control plane
    ├── TimedOutError                an answer did not come in time
    └── ApiError                     the control plane refused
        ├── InvalidRequestError      400, 413, 422
        ├── LoginRequiredError       401
        ├── ForbiddenError           403
        ├── NotFoundError            404
        ├── ConflictError            409
        └── RateLimitedError         429

Each carries a stable ``code``, one sentence, an optional ``hint`` (the next thing to do) and
``data``. The server raises the same classes; they cross the wire as RFC 9457 problem details.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing itself costs as much as all of bare Python's start
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, ClassVar


class PeriFlowError(Exception):
    """Base of every error of PeriFlow.

    Args:
        message: One sentence that says what is wrong.
        code: Stable machine-readable name; each class has a default.
        hint: What to do next, as a command where there is one.
        data: Values a program may want (names, offsets, line numbers).
    """

    default_code: ClassVar[str] = "error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint
        self.data: dict[str, Any] = dict(data or {})
        if hint and hint not in str(self):
            # A script's traceback is where the hint is needed.
            self.add_note(f"Next: {hint}")


class UsageError(PeriFlowError):
    """A call was made the wrong way; the message says how it should be."""

    default_code = "usage"

    def __str__(self) -> str:
        # A script's traceback is where the hint is needed.
        return f"{self.message} ({self.hint})" if self.hint else self.message


class MissingExtraError(PeriFlowError):
    """An optional library is not installed; the message has the ``pip install`` line."""

    default_code = "missing_extra"


class JobFileError(PeriFlowError):
    """The job file is wrong. ``data`` has ``line`` and ``column``, both from 1."""

    default_code = "job_file"


class UnsafePathError(PeriFlowError):
    """A path from a manifest or a journal is absolute, has ``..`` or leaves its folder."""

    default_code = "unsafe_path"


class CheckpointError(PeriFlowError):
    """A checkpoint could not be saved, or exists and cannot be verified."""

    default_code = "checkpoint"


class IntegrityError(PeriFlowError):
    """Bytes differ from what their hash promises."""

    default_code = "integrity"


class ServerUnreachableError(PeriFlowError):
    """The control plane did not answer after bounded retries."""

    default_code = "server_unreachable"


class TimedOutError(PeriFlowError):
    """Something did not happen within the time given."""

    default_code = "timed_out"


class ApiError(PeriFlowError):
    """The control plane refused a request. ``status`` is the HTTP status."""

    default_code = "server_error"
    status: ClassVar[int] = 500


class InvalidRequestError(ApiError):
    """The request itself is wrong (400, 413, 422)."""

    default_code = "invalid_request"
    status = 422


class LoginRequiredError(ApiError):
    """No valid login (401)."""

    default_code = "login_required"
    status = 401


class ForbiddenError(ApiError):
    """Logged in, a member, and still not allowed (403)."""

    default_code = "forbidden"
    status = 403


class NotFoundError(ApiError):
    """Nothing of that name, or nothing that the caller may know of (404)."""

    default_code = "not_found"
    status = 404


class ConflictError(ApiError):
    """It exists already, or the state does not allow it (409)."""

    default_code = "conflict"
    status = 409


class RateLimitedError(ApiError):
    """Too many tries (429). ``data`` has ``retry_after_seconds``: not before, and no sooner."""

    default_code = "rate_limited"
    status = 429


_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequestError,
    401: LoginRequiredError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    413: InvalidRequestError,
    422: InvalidRequestError,
    429: RateLimitedError,
}


def error_from_problem(status: int, problem: Mapping[str, Any]) -> ApiError:
    """Rebuild the error that the server raised from its problem document.

    Args:
        status: The HTTP status of the answer.
        problem: The decoded RFC 9457 document: ``title, detail, code, hint, data, request_id``.
    """
    data = dict(problem.get("data") or {})
    if request_id := problem.get("request_id"):
        data["request_id"] = request_id
    message = problem.get("detail") or problem.get("title") or f"The server answered {status}"
    return _BY_STATUS.get(status, ApiError)(
        str(message), code=problem.get("code"), hint=problem.get("hint"), data=data
    )
