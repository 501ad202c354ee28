"""API keys, whose an assessment is, when it changed, how many shards it has; a shard's digest says of which kind."""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table of keys; give old assessments their columns; they stay without a key."""
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("created_at", sa.String(32), nullable=False),
        sa.Column("expires_at", sa.String(32)),
        sa.Column("revoked_at", sa.String(32)),
        sa.Column("last_used_at", sa.String(32)),
    )
    key_id = sa.Column("key_id", sa.String(16), sa.ForeignKey("api_keys.id", name="fk_assessments_key_id"))
    op.add_column("assessments", key_id, inline_references=True)
    op.add_column("assessments", sa.Column("changed_at", sa.String(32), nullable=False, server_default=""))
    op.add_column("assessments", sa.Column("n_shards", sa.Integer, nullable=False, server_default="0"))
    # From now, not from their creation, so that retention removes none of them at once.
    now = sa.literal(datetime.now(UTC).isoformat(timespec="milliseconds"))
    op.execute(sa.update(sa.table("assessments", sa.column("changed_at", sa.String))).values(changed_at=now))
    op.execute("UPDATE assessments SET n_shards = (SELECT count(*) FROM shards WHERE assessment = number)")
    op.create_index("ix_assessments_key_id_number", "assessments", ["key_id", "number"])
    op.create_index("ix_assessments_changed_at", "assessments", ["changed_at"])
    # On SQLite a copy of the table: only so does the digest keep its place before the profile.
    with op.batch_alter_table("shards") as shards:
        shards.alter_column("sha256", new_column_name="digest", type_=sa.String(80), existing_type=sa.String(64))
    op.execute("UPDATE shards SET digest = 'sha256:' || digest")
    op.create_index("ix_shards_assessment_first_row", "shards", ["assessment", "first_row"])
