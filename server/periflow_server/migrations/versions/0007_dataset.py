"""Links and versions of datasets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("datasets") as batch:
        batch.add_column(sa.Column("prefix", sa.String(), nullable=False, server_default=""))
        batch.add_column(sa.Column("endpoint_url", sa.String(), nullable=True))
        batch.add_column(sa.Column("credential_id", sa.String(), nullable=True))
        batch.add_column(sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
        batch.create_index(op.f("ix_datasets_credential_id"), ["credential_id"])
    op.create_table(
        "dataset_versions",
        sa.Column("dataset_id", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.String(), nullable=False),
        sa.Column("snapshot_id", sa.String(), nullable=False),
        sa.Column("created_by", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["created_by"], ["users.id"], name=op.f("fk_dataset_versions_created_by")
        ),
        sa.ForeignKeyConstraint(
            ["dataset_id"],
            ["datasets.id"],
            name=op.f("fk_dataset_versions_dataset_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"],
            ["projects.id"],
            name=op.f("fk_dataset_versions_project_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["project_id", "snapshot_id"],
            ["snapshots.project_id", "snapshots.id"],
            name=op.f("fk_dataset_versions_project_id_snapshot_id"),
        ),
        sa.PrimaryKeyConstraint("dataset_id", "version", name=op.f("pk_dataset_versions")),
    )
    op.create_index(
        op.f("ix_dataset_versions_project_id_snapshot_id"),
        "dataset_versions",
        ["project_id", "snapshot_id"],
    )
    op.execute(
        "INSERT INTO dataset_versions"
        " (dataset_id, version, project_id, snapshot_id, created_by, created_at)"
        " SELECT id, 1, project_id, snapshot_id, created_by, created_at FROM datasets"
        " WHERE snapshot_id IS NOT NULL"
    )


def downgrade() -> None:
    op.drop_table("dataset_versions")
    with op.batch_alter_table("datasets") as batch:
        batch.drop_index(op.f("ix_datasets_credential_id"))
        for name in ("version", "credential_id", "endpoint_url", "prefix"):
            batch.drop_column(name)
