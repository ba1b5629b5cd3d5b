"""What every request and answer is made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
    ),
]
# One mailbox and nothing else: no list, no display name, no control character.
_EMAIL = r"^[^@\s\x00-\x1f\x7f-\x9f()<>\[\]:;,\\\"]+@[\w-]+(\.[\w-]+)+$"
Email = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_lower=True, max_length=254, pattern=_EMAIL),
]
PersonName = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$"
    ),
]
Password = Annotated[str, StringConstraints(min_length=8, max_length=256)]
Int32 = Annotated[int, Field(ge=-(1 << 31), lt=1 << 31)]
Int64 = Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
"""Numbers as every database has them."""
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Wire(BaseModel):
    """Answers: unknown keys are ignored, so that an older client reads a newer server."""

    model_config = ConfigDict(extra="ignore", from_attributes=True, defer_build=True)


class Body(BaseModel):
    """Requests: unknown keys are refused, and so are values that would have to be converted."""

    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)
