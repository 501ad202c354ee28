"""Jobs, and what happened to them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "jobs",
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(32), nullable=False, unique=True),
        sa.Column(
            "assessment",
            sa.Integer,
            sa.ForeignKey("assessments.number", name="fk_jobs_assessment", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("ended_at", sa.String(32)),
        sa.Column("fence", sa.Integer, nullable=False, server_default="0"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
        sa.Column("owner", sa.String(100)),
        sa.Column("lease_until", sa.Float),
        sa.Column("cancel_requested", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("shards_done", sa.Integer, nullable=False, server_default="0"),
        sa.Column("shards_total", sa.Integer),
        sa.Column("rows_done", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("bytes_done", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("bytes_coming", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("bytes_total", sa.BigInteger),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("problem", sa.JSON),
        sa.Column("spec", sa.JSON, nullable=False),
        sa.Column("result", sa.LargeBinary),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_state_number", "jobs", ["state", "number"])
    op.create_index("ix_jobs_assessment_fingerprint", "jobs", ["assessment", "fingerprint"])
    op.create_table(
        "job_events",
        sa.Column(
            "job",
            sa.Integer,
            sa.ForeignKey("jobs.number", name="fk_job_events_job", ondelete="CASCADE"),
            primary_key=True,
        ),
        sa.Column("event", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", sa.String(20), nullable=False),
        sa.Column("at", sa.String(32), nullable=False),
        sa.Column("data", sa.JSON, nullable=False),
    )
