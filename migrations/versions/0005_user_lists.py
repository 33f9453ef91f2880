"""Users' precomputed lists, and the changes to items since they were made."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, REAL

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = "tterec"


def _of_a_generation(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["generation"],
        [f"{SCHEMA}.models.generation"],
        name=f"{table}_generation_fkey",
        ondelete="CASCADE",
    )


def upgrade() -> None:
    op.create_table(
        "list_sets",
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("top", sa.Integer, nullable=False),
        sa.Column("change", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("refreshed_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("generation", name="list_sets_pkey"),
        _of_a_generation("list_sets"),
        schema=SCHEMA,
    )
    op.create_table(
        "list_changes",
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("change", sa.BigInteger, nullable=False),
        sa.Column("item_id", sa.BigInteger, nullable=False),
        sa.Column("before", ARRAY(REAL)),
        sa.Column("after", ARRAY(REAL)),
        sa.PrimaryKeyConstraint("generation", "change", "item_id", name="list_changes_pkey"),
        _of_a_generation("list_changes"),
        schema=SCHEMA,
    )
    op.create_table(
        "user_lists",
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.BigInteger, nullable=False),
        sa.Column("change", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("items", ARRAY(sa.BigInteger), nullable=False),
        sa.Column("scores", ARRAY(REAL), nullable=False),
        sa.Column("similarities", ARRAY(REAL)),
        sa.Column("vector", ARRAY(REAL)),
        sa.Column("nearest", REAL, nullable=False),
        sa.PrimaryKeyConstraint("generation", "user_id", name="user_lists_pkey"),
        _of_a_generation("user_lists"),
        schema=SCHEMA,
    )
    # A list of 200 is 4 kB: out of line and compressed, reading it would take three times as long.
    op.execute(f"ALTER TABLE {SCHEMA}.user_lists SET (toast_tuple_target = 8160)")
