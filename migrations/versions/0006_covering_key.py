"""The key of ratings holds all that is read of a user's ratings."""

from alembic import op
from psycopg import errors as pg
from psycopg import sql

from tterec import errors

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

SCHEMA = "tterec"

# An application may refer to a rating by its key. Of a partitioned table the parent's constraint
# stands for those of its parts.
_REFERRING = """
    SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(c.oid),
        obj_description(c.oid, 'pg_constraint'), pg_get_userbyid(relowner),
        pg_has_role(relowner, 'USAGE')
    FROM pg_constraint c JOIN pg_class r ON r.oid = conrelid
    WHERE contype = 'f' AND conindid = 'tterec.ratings_pkey'::regclass AND conparentid = 0
    ORDER BY 1, 2
"""


def upgrade() -> None:
    connection = op.get_bind().connection.driver_connection
    referring = connection.execute(_REFERRING).fetchall()
    foreign = [one for one in referring if not one[5]]
    if foreign:
        names = ", ".join(
            f"{name} of {table} (owner {who})" for table, name, _, _, who, _ in foreign
        )
        drop = "; ".join(
            f"ALTER TABLE {table} DROP CONSTRAINT {name}" for table, name, *_ in foreign
        )
        add = "; ".join(
            f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}"
            for table, name, definition, *_ in foreign
        )
        raise errors.DatabaseError(
            f"the upgrade replaces the key of {SCHEMA}.ratings, and this role may not make the "
            f"foreign keys anew that refer to it: {names}; nothing was changed; run tterec db "
            f"upgrade as a superuser, or before it, as their owner: {drop}; and after it: {add}"
        )
    # A user's ratings come over the years, so that each lies on another page of the table. The
    # other constraints stay as they are.
    op.execute(
        f"CREATE UNIQUE INDEX ratings_covering ON {SCHEMA}.ratings (user_id, book_id)"
        " INCLUDE (rating, rated_at)"
    )
    # Past SQLAlchemy, to which a colon or per cent in somebody's name says something.
    for table, name, *_ in referring:
        connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}".encode())
    try:
        connection.execute(
            f"ALTER TABLE {SCHEMA}.ratings DROP CONSTRAINT ratings_pkey,"
            " ADD CONSTRAINT ratings_pkey PRIMARY KEY USING INDEX ratings_covering".encode()
        )
    except pg.DependentObjectsStillExist as error:
        raise errors.DatabaseError(
            f"the key of {SCHEMA}.ratings cannot be replaced: "
            f"{' '.join((error.diag.message_detail or '').split())}; nothing was changed; drop "
            "what is built on it, run: tterec db upgrade, and create it again"
        ) from error
    for table, name, definition, comment, *_ in referring:
        connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}".encode())
        if comment is not None:
            connection.execute(
                sql.SQL("COMMENT ON CONSTRAINT {} ON {} IS {}").format(
                    sql.SQL(name), sql.SQL(table), comment
                )
            )
    # The second stage looks at other books for who has met many: lists made before are others now.
    op.execute(f"TRUNCATE {SCHEMA}.user_lists")
