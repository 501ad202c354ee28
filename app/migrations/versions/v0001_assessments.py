"""Assessments and their shards, as they were before there were migrations."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "assessments",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("batch_sizes", sa.JSON, nullable=False),
        sa.Column("method", sa.String(100), nullable=False),
        sa.Column("feature_axis", sa.String(20), nullable=False),
        sa.Column("sample_order", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "shards",
        sa.Column("assessment", sa.Integer, sa.ForeignKey("assessments.number", ondelete="CASCADE"), primary_key=True),
        sa.Column("shard_index", sa.Integer, primary_key=True),
        sa.Column("first_row", sa.BigInteger, nullable=False),
        sa.Column("n_rows", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("sample_shape", sa.JSON, nullable=False),
        sa.Column("dtype", sa.String(20), nullable=False),
        sa.Column("labelled", sa.Boolean, nullable=False),
        sa.Column("profile", sa.LargeBinary, nullable=False),
    )
