"""Names of users and organizations are unique whatever the case of their letters."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from periflow_sdk.errors import UsageError

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table, column in (("users", "username"), ("organizations", "name")):
        _refuse_twins(table, column)
        lowered = sa.text(f"lower({column})")
        op.create_index(op.f(f"ix_{table}_{column}_lower"), table, [lowered], unique=True)


def downgrade() -> None:
    op.drop_index(op.f("ix_organizations_name_lower"), "organizations")
    op.drop_index(op.f("ix_users_username_lower"), "users")


def _refuse_twins(table: str, column: str) -> None:
    name: sa.ColumnClause[str] = sa.column(column)
    query = (
        sa.select(sa.func.min(name), sa.func.max(name))
        .select_from(sa.table(table, name))
        .group_by(sa.func.lower(name))
        .having(sa.func.count() > 1)
    )
    twins = [f"{one} and {other}" for one, other in op.get_bind().execute(query)]
    if twins:
        raise UsageError(
            f"The names of some {table} differ by the case of their letters only: "
            f"{', '.join(twins)}.",
            code="names_too_alike",
            hint=f"Rename one of each in the table {table}, then start the server again.",
            data={"table": table, "names": twins},
        )
