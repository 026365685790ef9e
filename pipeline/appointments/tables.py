"""The tables of the store, as the newest migration leaves them (a test compares the two). No statement is run here.

Bodies stand here in clear: the file is its owner's alone, and a server's database has to be guarded as one with patient data. Of identifiers there are
keyed hashes only. The names differ from the ledger's, so that both may stand in one database.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    text,
    true,
)

METADATA: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
    }
)
RowId: Final = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts up only what is declared INTEGER."""
Name: Final = Text().with_variant(Text(collation="C"), "postgresql")
"""A FHIR id: both databases order it by its bytes."""
NEVER: Final = 2**62
"""The start of an appointment that has none: behind all others."""

APPOINTMENT_FACTS: Final = Table(
    "appointment_facts",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Single values of the store itself: `key_check`; the row `links` is what new keys queue at."""

PERSONS: Final = Table(
    "persons",
    METADATA,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("version", BigInteger, nullable=False),
    Column("purged", BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
"""`version` counts what was written of a person: a snapshot. Of those below `purged` something is missing."""

PERSON_KEYS: Final = Table(
    "person_keys",
    METADATA,
    Column("hash", Text, primary_key=True),
    Column("person", RowId, ForeignKey("persons.id"), nullable=False),
    Column("sole", Boolean, nullable=False),
)
Index(
    "one_sole_key_per_person",
    PERSON_KEYS.c.person,
    unique=True,
    sqlite_where=text("sole"),
    postgresql_where=text("sole"),
)

APPOINTMENTS: Final = Table(
    "appointments",
    METADATA,
    Column("id", Name, primary_key=True),
    Column("person", RowId, ForeignKey("persons.id"), nullable=False),
    Column("start_ms", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("event_ms", BigInteger, nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("refs", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("came_with", Text, nullable=False, server_default=""),
    Column("copy_of", Name),
    Column("shown", Boolean, nullable=False, server_default=true()),
    Column("told", Text, nullable=False, server_default=""),
    Column("released_of", Name),
    Column("released_ms", BigInteger),
)
"""The newest version of each; `since` is its person's version then, `refs` what it references, as Type/id on lines. `came_with`: the keys that it came
with, on lines; empty where nobody kept them. `copy_of`: the id by which messages name it, where this is one patient's copy of it. Not `shown`: the same
person has a newer one of it, by a merge; it stays for when the two are parted. `told`: the newest words of its messages (told.py); empty where nobody kept them. `released_of`: the
id by which messages named it until an operator, at `released_ms`, gave its number free for another patient."""
Index("appointments_of_a_person", APPOINTMENTS.c.person, APPOINTMENTS.c.start_ms, APPOINTMENTS.c.id)
Index(
    "copies_of_an_appointment",
    APPOINTMENTS.c.copy_of,
    sqlite_where=text("copy_of IS NOT NULL"),
    postgresql_where=text("copy_of IS NOT NULL"),
)
Index(
    "released_appointments",
    APPOINTMENTS.c.released_of,
    sqlite_where=text("released_of IS NOT NULL"),
    postgresql_where=text("released_of IS NOT NULL"),
)

SUPERSEDED: Final = Table(
    "superseded_appointments",
    METADATA,
    Column("row", RowId, primary_key=True, autoincrement=True),
    Column("id", Name, nullable=False),
    Column("person", RowId, ForeignKey("persons.id"), nullable=False),
    Column("start_ms", BigInteger, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
)
"""Older versions, for as long as a search may go on: valid from version `since` of the person until before `until`."""
Index("superseded_of_a_person", SUPERSEDED.c.person, SUPERSEDED.c.until)
Index("superseded_by_age", SUPERSEDED.c.at_ms)

REMEMBERED: Final = Table(
    "remembered_words",
    METADATA,
    Column("id", Name, primary_key=True),
    Column("hash", Text, primary_key=True),
    Column("told", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)
"""What was told of an appointment that nobody announced yet, for each key that it came with: status and times, nothing else. Nobody can read it."""
Index("remembered_of_a_key", REMEMBERED.c.hash)
Index("remembered_by_age", REMEMBERED.c.at_ms)

RESOURCES: Final = Table(
    "appointment_resources",
    METADATA,
    Column("person", RowId, ForeignKey("persons.id"), primary_key=True),
    Column("type", Text, primary_key=True),
    Column("id", Name, primary_key=True),
    Column("event_ms", BigInteger, nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("body", LargeBinary),
)
"""What a person's appointments reference, a copy for each person: nobody's reads depend on what somebody else has. No body: gone."""

PARTED: Final = Table(
    "parted_keys",
    METADATA,
    Column("hash", Text, primary_key=True),
    Column("other", Text, primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
)
"""Pairs of keys, the lesser first, that a person said are two persons', and when: a merge from before does not join them again."""

DEEDS: Final = Table(
    "person_deeds",
    METADATA,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("what", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("why", Text),
    Column("person", RowId, nullable=False),
    Column("other", RowId),
    Column("keys", Integer, nullable=False),
    Column("appointments", Integer, nullable=False),
    sqlite_autoincrement=True,
)
"""What was done to persons, by whom (of a merge: the record that told it), and how many keys and appointments went. `person` is who was left by it, `other`
whom it made, or who is no more; `why` is sealed. The numbers of persons stay, though they may be nobody's by now: they tell nothing."""
Index("deeds_of_a_person", DEEDS.c.person)
Index("deeds_of_another_person", DEEDS.c.other)
