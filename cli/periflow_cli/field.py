"""What people type into a request: each wrong field gets a sentence that they understand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

_NOUNS = {
    "OrganizationCreate": "organization name",
    "ProjectCreate": "project name",
    "DatasetCreate": "dataset name",
    "DockerCredentialCreate": "credential name",
    "S3CredentialCreate": "credential name",
    "AzureBlobCredentialCreate": "credential name",
    "GcsCredentialCreate": "credential name",
    "WandbCredentialCreate": "credential name",
    "SlackCredentialCreate": "credential name",
    "CredentialUpdate": "credential name",
    "ApiKeyCreate": "key name",
}
_SECRET = frozenset(
    {
        "password",
        "new_password",
        "token",
        "webhook_url",
        "api_key",
        "aws_access_key_id",
        "aws_secret_access_key",
        "storage_account_key",
        "service_account_key",
    }
)
"""Fields whose values are never shown."""
_ALPHABET = "use letters, digits, '.', '_' and '-', starting with a letter or a digit."


def complaints(body: type[BaseModel], values: Mapping[str, str]) -> list[str]:
    """What is wrong with some fields of a request, a sentence each; empty if nothing is.

    Args:
        values: The fields known so far; others are not missed.
    """
    from pydantic import ValidationError

    try:
        body.model_validate(dict(values))
    except ValidationError as error:
        found = [each for each in error.errors() if each["loc"] and each["loc"][0] in values]
        return [_sentence(error.title, each) for each in found]
    return []


def sentences(error: ValidationError) -> str:
    """Everything that is wrong with a request which the client itself refused."""
    return " ".join(_sentence(error.title, each) for each in error.errors())


def _sentence(model: str, error: ErrorDetails) -> str:
    field = ".".join(str(part) for part in error["loc"]) or "value"
    noun = _NOUNS.get(model, field) if field == "name" else field.replace("_", " ")
    shown = repr(error["input"])
    limits = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return f"{_article(noun)} is missing."
        case "string_pattern_mismatch" if field == "email":
            return f"{error['input']} is not an email address."
        case "string_pattern_mismatch" if field.endswith("_url"):
            return f"{shown} is no address: it begins with https:// or http://."
        case "string_pattern_mismatch":
            return f"{shown} is not {_article(noun).lower()}: {_ALPHABET}"
        case "string_too_short" if limits.get("min_length", 1) > 1:
            return f"{_article(noun)} has at least {limits['min_length']} characters."
        case "string_too_short":
            return f"{_article(noun)} may not be empty."
        case "string_too_long":
            return f"{_article(noun)} has at most {limits['max_length']} characters."
    if error["type"] == "value_error" and (field in _SECRET or not error["loc"]):
        # Of the whole request nothing is shown either: it may hold such a field.
        return f"{field if error['loc'] else ''} {limits['error']}.".strip()
    return f"{field}{'' if field in _SECRET else f' {shown}'}: {error['msg']}."


def _article(noun: str) -> str:
    return f"{'An' if noun[0] in 'aeio' else 'A'} {noun}"
