"""Alembic's entry: runs on the connection that tterec hands over in `config.attributes`."""

from alembic import context

from tterec.database.tables import SCHEMA, metadata


def run() -> None:
    """Migrate the given connection inside one transaction."""
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=metadata,
        version_table_schema=SCHEMA,
        include_schemas=True,
        transaction_per_migration=False,
    )
    with context.begin_transaction():
        context.run_migrations()


run()
