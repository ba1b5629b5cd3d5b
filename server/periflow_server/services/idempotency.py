"""The same delivery twice creates once."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import BaseModel

from periflow_server.db.base import Database, Session
from periflow_server.db.idempotency import first_answer, keep_answer, reserve_key


def create_once(
    database: Database,
    caller: str,
    path: str,
    key: str | None,
    create: Callable[[Session], BaseModel],
) -> str:
    """Run ``create`` in a write transaction and keep its answer with it, all or none.

    Args:
        caller: Who asks; keys of others are not seen.
        path: What is created where.
        key: The request's ``Idempotency-Key``; without one nothing is kept.
        create: Creates, and gives the answer. Never put secrets into it.

    Returns:
        The answer as JSON text: this one, or the first one for this caller, path and key.
    """
    with database.write() as session:
        if key is None:
            return create(session).model_dump_json()
        if not reserve_key(session, caller, path, key):
            return first_answer(session, caller, path, key)
        answer = create(session).model_dump_json()
        keep_answer(session, caller, path, key, answer)
        return answer
