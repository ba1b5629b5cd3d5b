"""The few pages that the server itself shows: plain, small, without scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:34rem;margin:3rem auto;padding:0 1rem;"
    "color:#1b1f24;background:#fff}h1{font-size:1.4rem}label{display:block;margin:.8rem 0 .2rem}"
    "input{width:100%;box-sizing:border-box;padding:.5rem;font:inherit}"
    "button{margin-top:1.2rem;padding:.5rem 1.2rem;font:inherit;cursor:pointer}"
    "pre{background:#f3f4f6;padding:.8rem;overflow-x:auto}.error{color:#a40e26}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
"""What goes with every page: nothing is loaded, framed, kept, or told to other sites."""


def page(title: str, *parts: str) -> str:
    """A whole page.

    Args:
        title: As text.
        parts: As HTML: of ``paragraph``, ``commands`` and ``form``.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )


def paragraph(text: str, *, is_error: bool = False) -> str:
    """A paragraph of text."""
    attributes = ' class="error" role="alert"' if is_error else ""
    return f"<p{attributes}>{escape(text)}</p>"


def commands(*lines: str) -> str:
    """Lines to type."""
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def form(action: str, button: str, hidden: Mapping[str, str], *fields: str) -> str:
    """A form that is posted to a path of this server."""
    kept = "".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in hidden.items()
    )
    return (
        f'<form method="post" action="{escape(action)}">{kept}{"".join(fields)}'
        f"<button>{escape(button)}</button></form>"
    )


def field(name: str, label: str, *, value: str = "", kind: str = "text", complete: str) -> str:
    """A field to fill in.

    Args:
        kind: ``text`` or ``password``.
        complete: What browsers may fill in: ``username``, ``name``, ``new-password``...
    """
    return (
        f'<label for="{escape(name)}">{escape(label)}</label>'
        f'<input id="{escape(name)}" name="{escape(name)}" type="{escape(kind)}" '
        f'value="{escape(value)}" autocomplete="{escape(complete)}" required>'
    )
