"""What the service keeps: feedback, items listed since the last snapshot; and the files feedback was closed into."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

# `seq` orders rows by arrival at PostgreSQL, gaps allowed; an insert that is still open may commit behind a higher one.
FEEDBACK = """
create table feedback (
  event_id text primary key,
  target text not null,
  user_id text not null,
  item_id text not null,
  event text not null check (event in ('impression', 'click', 'purchase', 'rating', 'dislike')),
  value double precision,
  happened_at timestamptz not null,
  received_at timestamptz not null default now(),
  context jsonb,
  request_id text,
  seq bigint generated always as identity
);
create index ix_feedback_user on feedback (target, user_id, happened_at);
create index ix_feedback_happened_at on feedback (target, happened_at);
create index ix_feedback_seq on feedback (seq);
"""

LISTED_ITEMS = """
create table listed_items (
  target text,
  item_id text,
  text text,
  attributes text[] not null default '{}',
  available_from timestamptz,
  listed_at timestamptz not null default now(),
  primary key (target, item_id)
);
"""

PARTITIONS = """
create table feedback_partitions (
  target text,
  day date,
  version integer,
  rows bigint not null,
  sha256 text not null,
  path text not null,
  closed_at timestamptz not null default now(),
  up_to bigint not null,
  primary key (target, day, version)
);
"""


def upgrade() -> None:
    """Make the three tables."""
    op.execute(FEEDBACK)
    op.execute(LISTED_ITEMS)
    op.execute(PARTITIONS)
