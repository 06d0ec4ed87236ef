"""The tables of the lineage index, and how a database gets them.

Everything but `promotions` and what the service keeps (at the end) is derived from the manifests and can be made again
(`warmstart lineage rebuild`).
Contents are interned: a folder (`trees`) is listed once however many nights restored it, a file (`files`) stands once
however many folders hold it, so that 10,000 nights that add a partition each cost what they add.

Only this file and the migrations import SQLAlchemy and Alembic, whose imports take longer than a question may; the
questions are SQL through psycopg (`database.py`).
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Date,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

MIGRATIONS = Path(__file__).parent / "migrations"
UPGRADE_LOCK = 7_310_001  # advisory: one process migrates
metadata = MetaData()

runs = Table(
    "runs", metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", Text, nullable=False, unique=True),
    Column("as_of", DateTime(timezone=True)),
    Column("origin", Text),
    Column("commit", Text),
)  # fmt: skip

# One row for each manifest. `facts` is the manifest without the lists of files, which are in `entries`.
attempts = Table(
    "attempts", metadata,
    Column("id", Integer, primary_key=True),
    Column("sha256", Text, nullable=False, unique=True),
    Column("run", Integer, ForeignKey("runs.id"), nullable=False, index=True),
    Column("stage", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("came_from", Text),
    Column("exit_code", Integer),
    Column("started", DateTime(timezone=True)),
    Column("ended", DateTime(timezone=True)),
    Column("facts", JSONB, nullable=False),
    # `facts` makes rows wide: who reads thousands of attempts reads this index alone
    Index("ix_attempts_id", "id", postgresql_include=["run", "source", "ended"]),
)  # fmt: skip

# The data an attempt read (code is in `facts`); `parent` is the manifest of the attempt that had written it.
inputs = Table(
    "inputs", metadata,
    Column("attempt", Integer, ForeignKey("attempts.id"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("md5", Text, nullable=False),
    Column("parent", Text, index=True),
)  # fmt: skip

# An output: its path in the workspace, and the folder's content as DVC names it (`….dir`).
trees = Table(
    "trees", metadata,
    Column("id", Integer, primary_key=True),
    Column("md5", Text, nullable=False, unique=True),
    Column("bytes", BigInteger),
    Column("files", Integer),
    Column("rows", BigInteger),
)  # fmt: skip
outputs = Table(
    "outputs", metadata,
    Column("attempt", Integer, ForeignKey("attempts.id"), primary_key=True),
    Column("path", Text, primary_key=True),
    Column("tree", Integer, ForeignKey("trees.id"), nullable=False, index=True),
    Index("ix_outputs_path", "path", "tree"),
)  # fmt: skip
files = Table(
    "files", metadata,
    Column("id", Integer, primary_key=True),
    Column("md5", Text, nullable=False, unique=True),
    Column("bytes", BigInteger),
    Column("rows", BigInteger),
    Column("first", DateTime(timezone=True)),  # oldest and newest `timestamp` in it
    Column("last", DateTime(timezone=True)),
    Column("columns", JSONB),
)  # fmt: skip
paths = Table(
    "paths", metadata,
    Column("id", Integer, primary_key=True),
    Column("path", Text, nullable=False, unique=True),
)  # fmt: skip
entries = Table(
    "entries", metadata,
    Column("tree", Integer, ForeignKey("trees.id"), primary_key=True),
    Column("path", Integer, ForeignKey("paths.id"), primary_key=True, index=True),
    Column("file", Integer, ForeignKey("files.id"), nullable=False, index=True),
)  # fmt: skip

# Pseudonyms as numbers (`index.user_key`). An array under a GIN index takes 2–3 bytes an appearance, a row 40.
file_users = Table(
    "file_users", metadata,
    Column("file", Integer, ForeignKey("files.id"), primary_key=True),
    Column("users", ARRAY(BigInteger), nullable=False),
    Index("ix_file_users_users", "users", postgresql_using="gin"),
)  # fmt: skip

sources = Table(
    "sources", metadata,
    Column("attempt", Integer, ForeignKey("attempts.id"), primary_key=True),
    Column("name", Text, primary_key=True, index=True),
    Column("place", Text),
    Column("md5", Text),
    Column("rows", BigInteger),
)  # fmt: skip

# Registered again by a retry, a version has two attempts; the first to end is the one whose files serve.
versions = Table(
    "versions", metadata,
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("attempt", Integer, ForeignKey("attempts.id"), primary_key=True, index=True),
    Column("verdict", Text),
)  # fmt: skip

# The transitive closure of `inputs.parent`: a walk of 150,000 attempts becomes one join.
ancestry = Table(
    "ancestry", metadata,
    Column("attempt", Integer, ForeignKey("attempts.id"), primary_key=True),
    Column("ancestor", Integer, ForeignKey("attempts.id"), primary_key=True),
    Index("ix_ancestry_ancestor", "ancestor", "attempt"),
)  # fmt: skip

# What is below each attempt, itself included, in one row: a question that goes down from 10,000 attempts reads as many.
descent = Table(
    "descent", metadata,
    Column("attempt", Integer, ForeignKey("attempts.id"), primary_key=True),
    Column("run", Integer, ForeignKey("runs.id"), nullable=False, index=True),
    Column("failed", ARRAY(Integer), nullable=False),  # attempts
    Column("registered", ARRAY(Integer), nullable=False),  # attempts that registered a version
    Column("paths", ARRAY(Integer), nullable=False),  # of their outputs; `trees` is the content of each
    Column("trees", ARRAY(Integer), nullable=False),
)  # fmt: skip

# Not derived from anything: what served, since when, and why. Append-only (a trigger), hash-chained per target.
promotions = Table(
    "promotions", metadata,
    Column("id", BigInteger, primary_key=True),
    Column("target", Text, nullable=False),
    Column("decided_at", DateTime(timezone=True), nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("verdict_sha256", Text),
    Column("from_version", Integer),
    Column("to_version", Integer, nullable=False),
    Column("run_id", Text),
    Column("previous_sha256", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    UniqueConstraint("target", "previous_sha256", name="uq_promotions_target_previous_sha256"),
)  # fmt: skip

# Written by the service (`pipeline/serving`): what users did, and items listed since the last snapshot.
feedback = Table(
    "feedback", metadata,
    Column("event_id", Text, primary_key=True),  # the caller's: sent again, an event is still one
    Column("target", Text, nullable=False),
    Column("user_id", Text, nullable=False),  # pseudonym
    Column("item_id", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("value", Double),
    Column("happened_at", DateTime(timezone=True), nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("context", JSONB),
    Column("request_id", Text),  # of the recommendation that it follows
    Column("seq", BigInteger, Identity(always=True), nullable=False),
    Index("ix_feedback_user", "target", "user_id", "happened_at"),
    Index("ix_feedback_happened_at", "target", "happened_at"),
    Index("ix_feedback_seq", "seq"),
)  # fmt: skip
listed_items = Table(
    "listed_items", metadata,
    Column("target", Text, primary_key=True),
    Column("item_id", Text, primary_key=True),
    Column("text", Text),
    Column("attributes", ARRAY(Text), nullable=False),
    Column("available_from", DateTime(timezone=True)),
    Column("listed_at", DateTime(timezone=True), nullable=False),
)  # fmt: skip

# Feedback closed into files by event day; a late event makes the next version of its day.
feedback_partitions = Table(
    "feedback_partitions", metadata,
    Column("target", Text, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("rows", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("closed_at", DateTime(timezone=True), nullable=False),
    Column("up_to", BigInteger, nullable=False),
)  # fmt: skip


def upgrade(url: str) -> None:
    """Bring the database at `url` (psycopg's or SQLAlchemy's form) to the newest revision; safe at once.

    Raises:
        sqlalchemy.exc.OperationalError: PostgreSQL does not answer.
    """
    from alembic import command
    from alembic.config import Config

    scheme, _, rest = url.partition("://")
    engine = create_engine(f"{scheme.partition('+')[0]}+psycopg://{rest}")
    try:
        with engine.begin() as connection:
            connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": UPGRADE_LOCK})
            config = Config(attributes={"connection": connection})
            config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
            command.upgrade(config, "head")
    finally:
        engine.dispose()
