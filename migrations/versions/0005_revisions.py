"""How often a generation's vectors were changed in place."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "models",
        sa.Column("revision", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        schema="tterec",
    )
