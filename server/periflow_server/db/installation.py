"""What all servers on this database have in common, as the first of them had it."""

from __future__ import annotations

from sqlalchemy.orm import Mapped, Session, mapped_column

from periflow_server.db.base import Base, lock
from periflow_server.db.engine import insert


class Trait(Base):
    """One thing that has to be the same on every server; empty while no server has said it."""

    __tablename__ = "installation_traits"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]


def trait(session: Session, name: str) -> Trait:
    """The trait of this name; nobody else reads or changes it in this way meanwhile."""
    session.execute(insert(session, Trait).values(name=name, value="").on_conflict_do_nothing())
    return lock(session, session.get_one(Trait, name))
