"""What a generation knows of its sources' rows, and the queue of changes to them."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import REAL, UUID

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCHEMA = "tterec"


def upgrade() -> None:
    learned = sa.Column("learned", sa.Boolean, nullable=False)
    for table, column, more in (
        ("item_state", "item_id", []),
        ("user_state", "user_id", [learned]),
    ):
        op.create_table(
            table,
            sa.Column("generation", sa.Integer, nullable=False),
            sa.Column(column, sa.BigInteger, nullable=False),
            sa.Column("digest", UUID, nullable=False),
            *more,
            sa.PrimaryKeyConstraint("generation", column, name=f"{table}_pkey"),
            sa.ForeignKeyConstraint(
                ["generation"],
                [f"{SCHEMA}.models.generation"],
                name=f"{table}_generation_fkey",
                ondelete="CASCADE",
            ),
            schema=SCHEMA,
        )
    op.create_table(
        "held_out",
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("item_id", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("generation", "user_id", "item_id", name="held_out_pkey"),
        sa.ForeignKeyConstraint(
            ["generation"],
            [f"{SCHEMA}.models.generation"],
            name="held_out_generation_fkey",
            ondelete="CASCADE",
        ),
        schema=SCHEMA,
    )
    op.create_table(
        "item_traits",
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value_md5", UUID, nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("weight", REAL, nullable=False),
        sa.PrimaryKeyConstraint("generation", "name", "value_md5", name="item_traits_pkey"),
        sa.ForeignKeyConstraint(
            ["generation"],
            [f"{SCHEMA}.models.generation"],
            name="item_traits_generation_fkey",
            ondelete="CASCADE",
        ),
        schema=SCHEMA,
    )
    op.create_table(
        "changes",
        sa.Column("change_id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("id", sa.BigInteger),
        sa.Column("queued_by", sa.BigInteger),
        sa.Column(
            "queued_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("clock_timestamp()"),
        ),
        sa.CheckConstraint(
            "kind IN ('item', 'user', 'interaction', 'everything')", name="changes_kind_check"
        ),
        schema=SCHEMA,
    )
    op.create_index(
        "changes_everything_idx",
        "changes",
        ["change_id"],
        schema=SCHEMA,
        postgresql_where=sa.text("kind = 'everything'"),
    )
    op.add_column(
        "models",
        sa.Column("forgotten_users", sa.Integer, nullable=False, server_default=sa.text("0")),
        schema=SCHEMA,
    )
    # An item that came after the training stands nowhere in the sparse vectors.
    op.execute(
        """
        DO $$
        DECLARE
            name regclass;
        BEGIN
            FOR name IN
                SELECT oid FROM pg_class WHERE relnamespace = 'tterec'::regnamespace
                    AND relkind = 'r' AND relname ~ '^item_evidence_[0-9]+$'
            LOOP
                EXECUTE format('ALTER TABLE %s ALTER COLUMN place DROP NOT NULL', name);
            END LOOP;
        END
        $$
        """
    )
