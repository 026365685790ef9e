"""The tables of the ledger, as the newest migration leaves them (a test compares the two). No statement is run here.

What may stand in them: keyed hashes of patients, sealed partner ids and results, names of our own, HL7 event and control id. Never a value of a
message that says something about a patient.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
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

FACTS: Final = Table(
    "facts",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Single values of the ledger itself: `key_check`; the row `merges` is what merges queue at."""

ROUTES: Final = Table(
    "routes",
    METADATA,
    Column("route", Text, primary_key=True),
    Column("consumer_group", Text, nullable=False),
    Column("how", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("partner", Text),
)
"""The first start of each route. `partner`: its name; of one that was started before it was recorded the next start says it."""

DELIVERIES: Final = Table(
    "deliveries",
    METADATA,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("route", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("partner", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("place", Text),
    Column("event", Text),
    Column("control_id", Text),
    Column("sender", Text),
    Column("event_ms", BigInteger),
    Column("lane", Text),
    Column("kind", Text),
    Column("subject", Text),
    Column("dedupe", Text),
    Column("request_id", Text),
    Column("pointer", Text),
    Column("step", Integer, nullable=False, server_default="0"),
    Column("attempt", Integer, nullable=False, server_default="0"),
    Column("intents", Integer, nullable=False, server_default="0"),
    Column("open", Boolean, nullable=False, server_default=false()),
    Column("intent", Text),
    Column("operation", Text),
    Column("mapping_version", Text),
    Column("sent_ms", BigInteger),
    Column("deadline_ms", BigInteger),
    Column("http_status", Integer),
    Column("response_ms", Float),
    Column("result_id", Text),
    Column("result", Text),
    Column("emitted", Boolean, nullable=False, server_default=false()),
    Column("at_ms", BigInteger, nullable=False),
    Column("replay", Text),
    Column("sent", Text),
    Column("sent_step", Integer, nullable=False, server_default="0"),
    Column("about", Text),
    Column("crashed", Boolean, nullable=False, server_default=false()),
    UniqueConstraint("route", "topic", "partition", "offset"),
    Index("ix_deliveries_dedupe", "dedupe"),
    Index("ix_deliveries_control_id", "control_id", "route", "sender", "dedupe"),
    Index("ix_deliveries_lane", "lane", "state"),
    Index("ix_deliveries_request_id", "request_id"),
    Index("ix_deliveries_state", "route", "state"),
    Index("ix_deliveries_at_ms", "at_ms"),
    Index("ix_deliveries_about", "about", sqlite_where=text("about IS NOT NULL"), postgresql_where=text("about IS NOT NULL")),
    Index(
        "ix_deliveries_unemitted",
        "route",
        "at_ms",
        sqlite_where=text("result IS NOT NULL"),
        postgresql_where=text("result IS NOT NULL"),
    ),
)
"""One row per source record and route. `open`: an intent has no answer that tells. `intents` counts what was begun: the next one names the count that it
read. `lane` is the patient by the least of its identities. `result` is sealed, and cleared once it is on its topic. `replay` is the plan that settled it
last; `sent` has keyed hashes of what went out, by element (fingerprint.py). `step`: what is below it was done; of a closed record 0, as a resend begins
anew. `sent_step` is that of the last intent. `about` is the visit that the message is about, where it is about one. `crashed`: it went
out again after a crash left it open, whatever came of that, until it is closed."""

OPEN_LANES: Final = Table(
    "open_lanes",
    METADATA,
    Column("route", Text, primary_key=True),
    Column("lane", Text, primary_key=True),
    Column("delivery", RowId, ForeignKey("deliveries.id"), nullable=False),
    Index("ix_open_lanes_delivery", "delivery"),
)
"""The lanes of each open delivery: the primary key is what lets one open intent per (route, lane) exist."""

ALSO: Final = Table(
    "also",
    METADATA,
    Column("lane", Text, primary_key=True),
    Column("delivery", RowId, ForeignKey("deliveries.id"), primary_key=True),
    Index("ix_also_delivery", "delivery"),
)
"""The further lanes of a message whose patient has several identities, or that is a merge."""

IDENTITIES: Final = Table(
    "identities",
    METADATA,
    Column("partner", Text, primary_key=True),
    Column("hash", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("system", Text, nullable=False),
    Column("known", Boolean, nullable=False, server_default=false()),
    Column("partner_id", Text),
    Column("merged_into", Text),
    Column("merged_ms", BigInteger),
    Column("creating", RowId, ForeignKey("deliveries.id")),
    Column("at_ms", BigInteger, nullable=False),
    Column("created_with", Boolean, nullable=False, server_default=false()),
    Column("belongs_to", Text),
    Index("ix_identities_merged_into", "partner", "merged_into"),
    Index("ix_identities_creating", "creating"),
)
"""What a partner knows (`known`), what was merged away (`merged_into`: hash of the last survivor), and which delivery has an open or unknown create
(`creating`): the primary key is what lets one create per patient and partner exist. A merge that waits for a re-key stands in `creating` too.
`created_with` is the identity that the create went out under. `belongs_to`, of a visit or coverage: the partner's id (sealed) of its patient."""

SUBJECTS: Final = Table(
    "subjects",
    METADATA,
    Column("route", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("sender", Text, primary_key=True),
    Column("event_ms", BigInteger),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
)
"""What was last delivered of each subject and sender."""

REPLAYS: Final = Table(
    "replays",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("route", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("why", Text),
    Column("filter", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("rate", Float, nullable=False),
    Column("latest_only", Boolean, nullable=False),
    Column("include_delivered", Boolean, nullable=False),
    Column("force", Boolean, nullable=False),
    Column("state", Text, nullable=False),
    Index("ix_replays_route", "route", "state"),
)
"""Replay plans. `why` is sealed."""

REPLAY_ITEMS: Final = Table(
    "replay_items",
    METADATA,
    Column("replay", Text, ForeignKey("replays.id"), primary_key=True),
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("offset", BigInteger, primary_key=True),
    Column("class", Text, nullable=False),
    Column("was", Text, nullable=False),
    Column("lanes", Text, nullable=False),
    Column("payload_topic", Text),
    Column("payload_partition", Integer),
    Column("payload_offset", BigInteger),
    Column("reason", Text),
    Column("place", Text),
    Column("state", Text, nullable=False),
    Column("holder", Text),
    Column("outcome", Text),
    Index("ix_replay_items_turn", "replay", "state", "topic", "partition", "offset"),
    Index("ix_replay_items_position", "topic", "partition", "offset"),
)
"""The records of a plan. `lanes`: keyed hashes with a space between them. `holder`: who took it."""

AUDIT: Final = Table(
    "audit",
    METADATA,
    Column("id", RowId, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("why", Text),
    Column("route", Text),
    Column("topic", Text),
    Column("partition", Integer),
    Column("offset", BigInteger),
    Column("replay", Text),
    Column("plan_hash", Text),
    Index("ix_audit_position", "topic", "partition", "offset"),
    Index("ix_audit_replay", "replay"),
)
"""What people did, when and why (sealed). A row is never changed."""

WATCHES: Final = Table(
    "watches",
    METADATA,
    Column("watch", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    Column("intent", Text),
)
"""Which process has a watch, and until when; and what it is about to append, with the topic's ends before (JSON of keyed hashes and offsets)."""

WATCH_DOSSIERS: Final = Table(
    "watch_dossiers",
    METADATA,
    Column("watch", Text, primary_key=True),
    Column("dossier", Text, primary_key=True),
    Column("sealed", Text, nullable=False),
    Column("from_ms", BigInteger),
    Column("after_ms", BigInteger),
    Column("polled_ms", BigInteger),
)
"""The dossiers of a watch by keyed hash, each with its sealed id, what is too old for it, how far it was read, and when it was asked for last."""

WATCH_RESPONSES: Final = Table(
    "watch_responses",
    METADATA,
    Column("watch", Text, primary_key=True),
    Column("response", Text, primary_key=True),
    Column("content", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
)
"""What stands on a watch's topic: keyed hashes of a response and of its content."""
