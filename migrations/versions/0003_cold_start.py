"""What embeds somebody by features alone in SQL, and clusters of items."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, REAL

revision = "0003"
down_revision = "0002"
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
        "profile_columns",
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("mean", ARRAY(DOUBLE_PRECISION)),
        sa.Column("scale", ARRAY(DOUBLE_PRECISION)),
        sa.Column("weights", ARRAY(REAL, dimensions=2)),
        sa.Column("buckets", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.PrimaryKeyConstraint("generation", "name", name="profile_columns_pkey"),
        _of_a_generation("profile_columns"),
        schema=SCHEMA,
    )
    op.create_table(
        "clusters",
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("cluster", sa.Integer, nullable=False),
        sa.Column("centre", ARRAY(REAL), nullable=False),
        sa.CheckConstraint("method IN ('kmeans', 'gmm')", name="clusters_method_check"),
        sa.PrimaryKeyConstraint("generation", "method", "cluster", name="clusters_pkey"),
        _of_a_generation("clusters"),
        schema=SCHEMA,
    )
    op.create_table(
        "item_clusters",
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("item_id", sa.BigInteger, nullable=False),
        sa.Column("cluster", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("generation", "method", "item_id", name="item_clusters_pkey"),
        _of_a_generation("item_clusters"),
        schema=SCHEMA,
    )
    op.create_index(
        "item_clusters_cluster_idx",
        "item_clusters",
        ["generation", "method", "cluster"],
        schema=SCHEMA,
    )
