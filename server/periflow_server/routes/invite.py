"""The page behind the link of an invitation. Opening it changes nothing: mail programs do that."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from periflow_sdk.api import models as m
from periflow_sdk.errors import ApiError, InvalidRequestError
from periflow_server.db.base import Database
from periflow_server.page import HEADERS, commands, field, form, page, paragraph
from periflow_server.routes.dependencies import CurrentSettings, Db, Throttle
from periflow_server.services import account, invitation
from periflow_server.services.invitation import Invited
from periflow_server.services.password import hash_password
from periflow_server.services.throttle import Limited

router = APIRouter(include_in_schema=False)

_LARGEST_FORM = 16 * 1024
Token = Annotated[str, Query(max_length=500)]


async def _form(request: Request) -> dict[str, str]:
    length = request.headers.get("content-length", "")
    if not length.isdigit() or int(length) > _LARGEST_FORM:
        raise HTTPException(413, "The form is too large.")
    fields = parse_qs((await request.body()).decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[0] for name, values in fields.items()}


Form = Annotated[dict[str, str], Depends(_form)]


@router.get("/invite")
def show_invitation(database: Db, settings: CurrentSettings, token: Token = "") -> HTMLResponse:
    """Who invites where to, and a form to accept."""
    try:
        invited = _look(database, token)
    except ApiError as error:
        return _refusal(error)
    return _answer(_invitation(invited, settings.url, {}))


@router.post("/invite")
def accept_invitation(
    form: Form, database: Db, settings: CurrentSettings, throttle: Throttle
) -> HTMLResponse:
    """Accept: with the password of one's account, or by making one."""
    try:
        invited = _look(database, form.get("token", ""))
    except ApiError as error:
        return _refusal(error)
    try:
        username = _accept(invited, form, database, throttle)
    except ApiError as error:
        return _answer(_invitation(invited, settings.url, form, error), error.status)
    return _answer(_welcome(invited, username, settings.url))


def _look(database: Database, token: str) -> Invited:
    with database.read() as session:
        return invitation.look(session, token)


def _accept(invited: Invited, form: dict[str, str], database: Database, throttle: Throttle) -> str:
    """Make him a member who is there or signs up now; his username."""
    if invited.username is not None:
        throttle(Limited.LOGIN, invited.username)
        account.accept_with_password(database, invited.code, form.get("password", ""))
        throttle.give_back(Limited.LOGIN, invited.username)
        return invited.username
    body = _signup(invited, form)
    throttle(Limited.SIGNUP, body.username)
    password_hash = hash_password(body.password)
    with database.write() as session:
        return account.join_invited(session, body, password_hash).username


def _signup(invited: Invited, form: dict[str, str]) -> m.InvitedSignup:
    fields = {name: form.get(name, "") for name in ("username", "name", "password")}
    try:
        return m.InvitedSignup(code=invited.code, **fields)
    except ValidationError as error:
        wrong = sorted({str(each["loc"][0]) for each in error.errors()})
        raise InvalidRequestError(
            f"This is not right: {', '.join(wrong)}.",
            hint="A username has up to 64 letters, digits, '.', '_' and '-'; a password has at "
            "least 8 characters.",
        ) from None


def _invitation(
    invited: Invited, url: str, given: dict[str, str], error: ApiError | None = None
) -> str:
    return page(
        f"Join {invited.organization} on PeriFlow",
        paragraph(f"{invited.inviter} invites you to the organization {invited.organization}."),
        *(_complaint(error) if error else ()),
        form("/invite", "Accept", {"token": invited.code}, *_fields(invited, given)),
        paragraph("Or in a terminal, with the pf command that your team has:"),
        commands(*_steps(url), *_acceptance(invited)),
    )


def _fields(invited: Invited, given: dict[str, str]) -> list[str]:
    if invited.username is not None:
        return [
            paragraph(f"{invited.email} is the address of your account {invited.username}."),
            field("password", "Password", kind="password", complete="current-password"),
        ]
    return [
        paragraph(f"This makes an account for {invited.email}."),
        field("username", "Username", value=given.get("username", ""), complete="username"),
        field("name", "Your name", value=given.get("name", ""), complete="name"),
        field("password", "Password", kind="password", complete="new-password"),
    ]


def _welcome(invited: Invited, username: str, url: str) -> str:
    return page(
        f"You are in {invited.organization}",
        paragraph("The invitation was accepted. To begin, type in a terminal:"),
        commands(
            *_steps(url), f"pf login --username {username}", f"pf org switch {invited.organization}"
        ),
    )


def _steps(url: str) -> tuple[str, ...]:
    return (f"export PERIFLOW_URL={url}",)


def _acceptance(invited: Invited) -> tuple[str, ...]:
    if invited.username is None:
        return (f"pf signup --invite {invited.code}",)
    login = f"pf login --username {invited.username}"
    return (login, f"pf org accept-invite --code {invited.code}")


def _refusal(error: ApiError) -> HTMLResponse:
    return _answer(page("This invitation does not work", *_complaint(error)), error.status)


def _complaint(error: ApiError) -> tuple[str, ...]:
    hint = (paragraph(error.hint),) if error.hint else ()
    return (paragraph(error.message, is_error=True), *hint)


def _answer(html: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(html, status_code=status, headers=dict(HEADERS))
