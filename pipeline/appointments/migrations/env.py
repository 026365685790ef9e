"""What alembic runs: the migrations, on the connection and in the transaction that database/schema.py opened. Nothing is logged."""

from alembic import context

from pipeline.appointments.named import VERSIONS
from pipeline.appointments.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    transactional_ddl=False,
    version_table=VERSIONS,
)
context.run_migrations()
