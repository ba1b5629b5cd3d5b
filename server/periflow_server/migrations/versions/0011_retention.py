"""Retention rules: which jobs are due, and checkpoints that the rules have removed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs") as batch:
        batch.add_column(sa.Column("retention_due_at", sa.DateTime(timezone=True), nullable=True))
        batch.create_index(op.f("ix_jobs_retention_due_at"), ["retention_due_at"])
    with op.batch_alter_table("checkpoints") as batch:
        batch.add_column(sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.execute(
        "DELETE FROM checkpoint_parts WHERE checkpoint_id IN (SELECT id FROM checkpoints "
        "WHERE removed_at IS NOT NULL)"
    )
    op.execute(
        "DELETE FROM checkpoints WHERE duplicate_of IN "
        "(SELECT id FROM checkpoints WHERE removed_at IS NOT NULL)"
    )
    op.execute("DELETE FROM checkpoints WHERE removed_at IS NOT NULL")
    with op.batch_alter_table("checkpoints") as batch:
        batch.drop_column("removed_at")
    with op.batch_alter_table("jobs") as batch:
        batch.drop_index(op.f("ix_jobs_retention_due_at"))
        batch.drop_column("retention_due_at")
