"""Users, books, ratings; the registry of generations; the reader's role."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = "tterec"


def upgrade() -> None:
    op.create_table(
        "users",
        sa.Column("user_id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("location", sa.Text),
        sa.Column("age", sa.SmallInteger),
        schema=SCHEMA,
    )
    op.create_table(
        "books",
        sa.Column("book_id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("isbn", sa.Text, nullable=False),
        sa.Column("title", sa.Text),
        sa.Column("author", sa.Text),
        sa.Column("publisher", sa.Text),
        sa.Column("year", sa.SmallInteger),
        sa.Column("image_url_s", sa.Text),
        sa.Column("image_url_m", sa.Text),
        sa.Column("image_url_l", sa.Text),
        sa.UniqueConstraint("isbn", name="books_isbn_key"),
        schema=SCHEMA,
    )
    op.create_table(
        "ratings",
        sa.Column("user_id", sa.BigInteger, nullable=False),
        sa.Column("book_id", sa.BigInteger, nullable=False),
        sa.Column("rating", REAL),
        sa.Column("rated_at", sa.DateTime(timezone=True), server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("user_id", "book_id", name="ratings_pkey"),
        sa.ForeignKeyConstraint(
            ["user_id"],
            [f"{SCHEMA}.users.user_id"],
            name="ratings_user_id_fkey",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["book_id"],
            [f"{SCHEMA}.books.book_id"],
            name="ratings_book_id_fkey",
            ondelete="CASCADE",
        ),
        sa.CheckConstraint("rating >= 0 AND rating <= 10", name="ratings_rating_check"),
        schema=SCHEMA,
    )
    op.create_index("ratings_book_id_idx", "ratings", ["book_id"], schema=SCHEMA)
    op.create_table(
        "rejected_rows",
        sa.Column("rejected_id", sa.BigInteger, sa.Identity(), primary_key=True),
        sa.Column("file", sa.Text, nullable=False),
        sa.Column("line", sa.BigInteger, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("raw", sa.Text, nullable=False),
        sa.Column("raw_md5", sa.Text, nullable=False),
        sa.Column(
            "rejected_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
        ),
        sa.UniqueConstraint("file", "line", "raw_md5", name="rejected_rows_file_line_raw_md5_key"),
        schema=SCHEMA,
    )
    for table, column in (("user_keys", "user_id"), ("item_keys", "item_id")):
        op.create_table(
            table,
            sa.Column(column, sa.BigInteger, sa.Identity(), primary_key=True),
            sa.Column("key", sa.Text, nullable=False),
            sa.UniqueConstraint("key", name=f"{table}_key_key"),
            schema=SCHEMA,
        )
    op.create_table(
        "models",
        sa.Column("generation", sa.Integer, sa.Identity(), primary_key=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("objective", sa.Text, nullable=False),
        sa.Column("dim", sa.Integer),
        sa.Column("normalised", sa.Boolean),
        sa.Column("max_history", sa.Integer),
        sa.Column("history_weights", ARRAY(REAL)),
        sa.Column("default_profile", ARRAY(REAL)),
        sa.Column("ef_search", sa.Integer),
        sa.Column("seed", sa.BigInteger, nullable=False),
        sa.Column("config", JSONB, nullable=False),
        sa.Column("sources", JSONB, nullable=False),
        sa.Column("features", JSONB),
        sa.Column("counts", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("watermark", sa.DateTime(timezone=True)),
        sa.Column("metrics", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("versions", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("weights", sa.LargeBinary),
        sa.CheckConstraint(
            "status IN ('building', 'ready', 'failed', 'pruned')", name="models_status_check"
        ),
        schema=SCHEMA,
    )
    # Float tensors do not compress: trying costs time on every write.
    op.execute(f"ALTER TABLE {SCHEMA}.models ALTER COLUMN weights SET STORAGE EXTERNAL")
    op.create_table(
        "active_model",
        sa.Column("only_row", sa.Boolean, server_default=sa.text("true"), primary_key=True),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("previous_generation", sa.Integer),
        sa.Column(
            "promoted_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("now()"),
        ),
        sa.CheckConstraint("only_row", name="active_model_only_row_check"),
        sa.ForeignKeyConstraint(
            ["generation"], [f"{SCHEMA}.models.generation"], name="active_model_generation_fkey"
        ),
        sa.ForeignKeyConstraint(
            ["previous_generation"],
            [f"{SCHEMA}.models.generation"],
            name="active_model_previous_generation_fkey",
        ),
        schema=SCHEMA,
    )
    op.create_table(
        "item_popularity",
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("item_id", sa.BigInteger, nullable=False),
        sa.Column("interactions", sa.Integer, nullable=False),
        sa.Column("ratings", sa.Integer, nullable=False),
        sa.Column("mean_rating", REAL),
        sa.Column("score", REAL, nullable=False),
        sa.PrimaryKeyConstraint("generation", "item_id", name="item_popularity_pkey"),
        sa.ForeignKeyConstraint(
            ["generation"],
            [f"{SCHEMA}.models.generation"],
            name="item_popularity_generation_fkey",
            ondelete="CASCADE",
        ),
        schema=SCHEMA,
    )
    op.create_index(
        "item_popularity_rank_idx",
        "item_popularity",
        ["generation", sa.text("score DESC"), "item_id"],
        schema=SCHEMA,
    )
    op.create_table(
        "schema_state",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        schema=SCHEMA,
    )
