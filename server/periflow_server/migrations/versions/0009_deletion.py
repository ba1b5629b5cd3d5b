"""Deleted jobs, and job numbers that outlive them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("jobs") as batch:
        batch.add_column(sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
        batch.create_index(op.f("ix_jobs_deleted_at"), ["deleted_at"])
    with op.batch_alter_table("projects") as batch:
        batch.add_column(
            sa.Column("last_job_number", sa.Integer(), nullable=False, server_default="0")
        )
    op.execute(
        "UPDATE projects SET last_job_number = coalesce("
        "(SELECT max(number) FROM jobs WHERE jobs.project_id = projects.id), 0)"
    )


def downgrade() -> None:
    with op.batch_alter_table("projects") as batch:
        batch.drop_column("last_job_number")
    with op.batch_alter_table("jobs") as batch:
        batch.drop_index(op.f("ix_jobs_deleted_at"))
        batch.drop_column("deleted_at")
