"""How much a project may store."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("projects") as batch:
        batch.add_column(sa.Column("storage_quota", sa.BigInteger(), nullable=True))
        batch.add_column(sa.Column("storage_limit", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("projects") as batch:
        batch.drop_column("storage_limit")
        batch.drop_column("storage_quota")
