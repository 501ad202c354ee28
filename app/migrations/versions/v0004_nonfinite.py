"""What becomes of rows that are not finite, by assessment."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the column; assessments made before refuse such rows."""
    column = sa.Column("nonfinite", sa.String(20), nullable=False, server_default="raise")
    op.add_column("assessments", column)
