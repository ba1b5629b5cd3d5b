"""Errors become one line, a hint and an exit code here, and nowhere else."""

from __future__ import annotations

import os
import sys

import click

from periflow_cli.group import Invocation
from periflow_sdk import errors as e

EXIT_CODES = (
    (0, "done"),
    (1, "failed"),
    (2, "wrong usage: an option, an argument or the job file"),
    (3, "not found: no such dataset, job, checkpoint, VM, ..."),
    (4, "login needed, or not allowed"),
    (5, "conflict: it exists already, or the name means several"),
    (6, "the control plane could not be reached"),
    (7, "timed out"),
    (8, "the job itself failed (`pf job run --wait`)"),
    (130, "interrupted by Ctrl-C"),
)

_EXIT_BY_CODE = {
    "vm_unknown": 3,
    "credential_refused": 1,
    "verification_unavailable": 1,
    "credential_revoked": 1,
    "access_denied": 1,
    "bucket_not_found": 3,
    "clock_skew": 1,
    "storage_busy": 1,
    "storage_unreachable": 1,
    "wrong_credentials": 4,
    "token_expired": 4,
    "ambiguous": 5,
    "job_failed": 8,
}
_EXIT_BY_CLASS: tuple[tuple[type[BaseException], int], ...] = (
    (e.UsageError, 2),
    (e.JobFileError, 2),
    (e.InvalidRequestError, 2),
    (e.NotFoundError, 3),
    (e.LoginRequiredError, 4),
    (e.ForbiddenError, 4),
    (e.ConflictError, 5),
    (e.ServerUnreachableError, 6),
    (e.TimedOutError, 7),
)


def exit_code(error: e.PeriFlowError) -> int:
    """The exit code of an error: by its code, else by its class, else 1."""
    if error.code in _EXIT_BY_CODE:
        return _EXIT_BY_CODE[error.code]
    return next((code for kind, code in _EXIT_BY_CLASS if isinstance(error, kind)), 1)


def report(error: BaseException, invocation: Invocation) -> int:
    """Print what went wrong on stderr; the exit code.

    A reader of our output that went away (`pf job list | head -1`) is not an error.
    """
    if invocation.debug and not isinstance(error, (click.exceptions.Exit, SystemExit)):
        import traceback

        traceback.print_exception(error)
    match error:
        case click.exceptions.Exit():
            return error.exit_code
        case SystemExit():
            return error.code if isinstance(error.code, int) else 1
        case click.Abort() | KeyboardInterrupt():
            return 130
        case BrokenPipeError():
            _silence_stdout()
            return 1
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message(), err=True)
            return 2
        case click.ClickException():
            return _say(error.format_message(), _usage_hint(error), 2, invocation)
        case e.PeriFlowError():
            return _say(_with_request(error), _hint(error), exit_code(error), invocation)
    if _is_foreign_answer(error):
        sentence = "The server does not answer as a PeriFlow control plane."
        return _say(sentence, "Check PERIFLOW_URL.", 6, invocation)
    if problem := _invalid_field(error):
        return _say(problem, None, 2, invocation)
    if isinstance(error, OSError):
        return _say(_os_sentence(error), None, 1, invocation)
    hint = None if invocation.debug else "Run it again with --debug and report the traceback."
    return _say(f"Unexpected {type(error).__name__}: {error}", hint, 1, invocation)


def _say(message: str, hint: str | None, code: int, invocation: Invocation) -> int:
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    if hint and not invocation.quiet:
        click.echo(f"Hint: {hint}", err=True)
    return code


def _with_request(error: e.PeriFlowError) -> str:
    request = error.data.get("request_id")
    return f"{error.message} (request {request})" if request else error.message


def _hint(error: e.PeriFlowError) -> str | None:
    if isinstance(error, e.LoginRequiredError):
        # What is in the variable comes before any login, so that one more would change nothing.
        if error.code == "login_required" and os.environ.get("PERIFLOW_API_KEY"):
            return (
                "PERIFLOW_API_KEY holds no key of this server: set one of `pf key create`, or "
                "unset it."
            )
        return error.hint or "pf login"
    return error.hint


def _usage_hint(error: click.ClickException) -> str | None:
    context = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context is not None else None


def _os_sentence(error: OSError) -> str:
    where = f": {error.filename}" if error.filename else ""
    return f"{error.strerror or error}{where}"


def _invalid_field(error: BaseException) -> str | None:
    """What is wrong with a request that the client itself refused."""
    if type(error).__name__ != "ValidationError":
        return None
    from pydantic import ValidationError

    from periflow_cli.field import sentences

    return sentences(error) if isinstance(error, ValidationError) else None


def _is_foreign_answer(error: BaseException) -> bool:
    """Whether an answer was no JSON at all: somebody else's server."""
    if isinstance(error, ValueError) and type(error).__name__ == "JSONDecodeError":
        return True
    return type(error).__name__ == "ValidationError" and "json_invalid" in str(error)


def _silence_stdout() -> None:
    # Python flushes stdout once more at exit and would complain there.
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
