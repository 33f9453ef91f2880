"""The key of ratings holds all that is read of a user's ratings."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = "tterec"


def upgrade() -> None:
    # A user's ratings come over the years, so that each lies on another page of the table. The
    # other constraints stay as they are.
    op.execute(
        f"CREATE UNIQUE INDEX ratings_covering ON {SCHEMA}.ratings (user_id, book_id)"
        " INCLUDE (rating, rated_at)"
    )
    op.execute(
        f"ALTER TABLE {SCHEMA}.ratings DROP CONSTRAINT ratings_pkey,"
        " ADD CONSTRAINT ratings_pkey PRIMARY KEY USING INDEX ratings_covering"
    )
    # The second stage looks at other books for who has met many: lists made before are others now.
    op.execute(f"TRUNCATE {SCHEMA}.user_lists")
