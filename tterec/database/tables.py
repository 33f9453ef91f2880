"""The tables of the schema `tterec`, described once: `tterec db check` compares them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSONB, REAL, UUID

SCHEMA = "tterec"

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    },
)

users = Table(
    "users",
    metadata,
    Column("user_id", BigInteger, Identity(), primary_key=True),
    Column("location", Text),
    Column("age", SmallInteger),
)

books = Table(
    "books",
    metadata,
    Column("book_id", BigInteger, Identity(), primary_key=True),
    Column("isbn", Text, nullable=False, unique=True),
    Column("title", Text),
    Column("author", Text),
    Column("publisher", Text),
    Column("year", SmallInteger),
    Column("image_url_s", Text),
    Column("image_url_m", Text),
    Column("image_url_l", Text),
)

ratings = Table(
    "ratings",
    metadata,
    Column(
        "user_id", BigInteger, ForeignKey(users.c.user_id, ondelete="CASCADE"), primary_key=True
    ),
    Column(
        "book_id",
        BigInteger,
        ForeignKey(books.c.book_id, ondelete="CASCADE"),
        primary_key=True,
        index=True,
    ),
    # NULL: interacted without rating. NaN fails the check: to Postgres it is above every number.
    Column("rating", REAL, CheckConstraint("rating >= 0 AND rating <= 10", name="rating")),
    Column("rated_at", DateTime(timezone=True), server_default=text("now()")),
)

rejected_rows = Table(
    "rejected_rows",
    metadata,
    Column("rejected_id", BigInteger, Identity(), primary_key=True),
    Column("file", Text, nullable=False),
    Column("line", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("raw", Text, nullable=False),
    Column("raw_md5", Text, nullable=False),  # raw may exceed what an index entry can hold
    Column("rejected_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    UniqueConstraint("file", "line", "raw_md5"),
)

user_keys = Table(
    "user_keys",
    metadata,
    Column("user_id", BigInteger, Identity(), primary_key=True),
    Column("key", Text, nullable=False, unique=True),
)

item_keys = Table(
    "item_keys",
    metadata,
    Column("item_id", BigInteger, Identity(), primary_key=True),
    Column("key", Text, nullable=False, unique=True),
)

models = Table(
    "models",
    metadata,
    Column("generation", Integer, Identity(), primary_key=True),
    Column(
        "status",
        Text,
        CheckConstraint("status IN ('building', 'ready', 'failed', 'pruned')", name="status"),
        nullable=False,
    ),
    Column("created_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("finished_at", DateTime(timezone=True)),
    Column("objective", Text, nullable=False),
    Column("dim", Integer),
    Column("normalised", Boolean),
    Column("max_history", Integer),
    Column("history_weights", ARRAY(REAL)),
    Column("default_profile", ARRAY(REAL)),
    Column("ef_search", Integer),
    Column("ranker", JSONB),  # as retrieval.live_models.Ranking; NULL: no second stage
    Column("seed", BigInteger, nullable=False),
    Column("config", JSONB, nullable=False),
    Column("sources", JSONB, nullable=False),
    Column("features", JSONB),
    Column("counts", JSONB, nullable=False, server_default=text("'{}'")),
    Column("watermark", DateTime(timezone=True)),
    Column("metrics", JSONB, nullable=False, server_default=text("'{}'")),
    Column("versions", JSONB, nullable=False, server_default=text("'{}'")),
    Column("weights", LargeBinary),
    # Users that it learned from and that were deleted since.
    Column("forgotten_users", Integer, nullable=False, server_default=text("0")),
)

active_model = Table(
    "active_model",
    metadata,
    Column(
        "only_row",
        Boolean,
        CheckConstraint("only_row", name="only_row"),
        primary_key=True,
        server_default=text("true"),
    ),
    Column("generation", Integer, ForeignKey(models.c.generation), nullable=False),
    Column("previous_generation", Integer, ForeignKey(models.c.generation)),
    Column("promoted_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
)

item_popularity = Table(
    "item_popularity",
    metadata,
    Column(
        "generation", Integer, ForeignKey(models.c.generation, ondelete="CASCADE"), primary_key=True
    ),
    Column("item_id", BigInteger, primary_key=True),
    Column("interactions", Integer, nullable=False),
    Column("ratings", Integer, nullable=False),
    Column("mean_rating", REAL),
    Column("score", REAL, nullable=False),
)
Index(
    "item_popularity_rank_idx",
    item_popularity.c.generation,
    item_popularity.c.score.desc(),
    item_popularity.c.item_id,
)


def _of_a_generation() -> Column[int]:
    return Column(
        "generation", Integer, ForeignKey(models.c.generation, ondelete="CASCADE"), primary_key=True
    )


# The user tower's columns: what SQL needs to embed somebody by features alone.
profile_columns = Table(
    "profile_columns",
    metadata,
    _of_a_generation(),
    Column("name", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("mean", ARRAY(DOUBLE_PRECISION)),
    Column("scale", ARRAY(DOUBLE_PRECISION)),
    Column("weights", ARRAY(REAL, dimensions=2)),
    Column("buckets", Integer, nullable=False, server_default=text("0")),
)

clusters = Table(
    "clusters",
    metadata,
    _of_a_generation(),
    Column(
        "method",
        Text,
        CheckConstraint("method IN ('kmeans', 'gmm')", name="method"),
        primary_key=True,
    ),
    Column("cluster", Integer, primary_key=True, autoincrement=False),
    Column("centre", ARRAY(REAL), nullable=False),
)

item_clusters = Table(
    "item_clusters",
    metadata,
    _of_a_generation(),
    Column("method", Text, primary_key=True),
    Column("item_id", BigInteger, primary_key=True),
    Column("cluster", Integer, nullable=False),
    Index("item_clusters_cluster_idx", "generation", "method", "cluster"),
)

# A digest of each row of the sources that a generation has embedded; zeros for a user who is only
# in the interactions.
item_state = Table(
    "item_state",
    metadata,
    _of_a_generation(),
    Column("item_id", BigInteger, primary_key=True),
    Column("digest", UUID, nullable=False),
)

user_state = Table(
    "user_state",
    metadata,
    _of_a_generation(),
    Column("user_id", BigInteger, primary_key=True),
    Column("digest", UUID, nullable=False),
    Column("learned", Boolean, nullable=False),  # or came after the training
)

# The interactions that a generation was validated by, and did not learn from.
held_out = Table(
    "held_out",
    metadata,
    _of_a_generation(),
    Column("user_id", BigInteger, primary_key=True),
    Column("item_id", BigInteger, primary_key=True),
)

# Where a value of an items' feature stands in the second stage's sparse vectors, and its weight.
item_traits = Table(
    "item_traits",
    metadata,
    _of_a_generation(),
    Column("name", Text, primary_key=True),
    Column("value_md5", UUID, primary_key=True),  # a value may exceed what an index entry can hold
    Column("place", Integer, nullable=False),
    Column("weight", REAL, nullable=False),
)

# A generation that has precomputed lists: how deep they are, the number of the last change to its
# items, and when `tterec precompute` last came to its end.
list_sets = Table(
    "list_sets",
    metadata,
    _of_a_generation(),
    Column("top", Integer, nullable=False),
    Column("change", BigInteger, nullable=False, server_default=text("0")),
    Column("refreshed_at", DateTime(timezone=True)),
)

# Items that changed since some lists were made, with the vectors that they had and have. Neither:
# whatever is older is out of date.
list_changes = Table(
    "list_changes",
    metadata,
    _of_a_generation(),
    Column("change", BigInteger, primary_key=True, autoincrement=False),
    Column("item_id", BigInteger, primary_key=True),
    Column("before", ARRAY(REAL)),
    Column("after", ARRAY(REAL)),
)

# Users' precomputed lists. No foreign key to users: these may be in a shop's own tables.
user_lists = Table(
    "user_lists",
    metadata,
    _of_a_generation(),
    Column("user_id", BigInteger, primary_key=True),
    Column("digest", BigInteger, nullable=False),  # tterec.history_digest() when it was made
    Column("change", BigInteger, nullable=False),  # list_sets.change when it was made
    Column("source", Text, nullable=False),
    Column("items", ARRAY(BigInteger), nullable=False),  # best first
    Column("scores", ARRAY(REAL), nullable=False),
    Column("similarities", ARRAY(REAL)),  # NULL: they are the scores
    Column("vector", ARRAY(REAL)),  # the user's
    # An item whose inner product with it is less was not looked at, and is not missing.
    Column("nearest", REAL, nullable=False),
)

# The queue that triggers fill and `tterec worker` empties. id: NULL with 'everything'.
changes = Table(
    "changes",
    metadata,
    Column("change_id", BigInteger, Identity(), primary_key=True),
    Column(
        "kind",
        Text,
        CheckConstraint("kind IN ('item', 'user', 'interaction', 'everything')", name="kind"),
        nullable=False,
    ),
    Column("id", BigInteger),
    Column("queued_by", BigInteger),  # the transaction that asks for 'everything'
    Column(
        "queued_at",
        DateTime(timezone=True),
        nullable=False,
        server_default=text("clock_timestamp()"),
    ),
)
Index(
    "changes_everything_idx",
    changes.c.change_id,
    postgresql_where=text("kind = 'everything'"),
)

schema_state = Table(
    "schema_state",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
