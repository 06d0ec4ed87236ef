"""The lineage index, and the promotion log with the trigger that makes it append-only."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

LINEAGE = """
create table runs (
  id serial primary key,
  run_id text not null unique,
  as_of timestamptz,
  origin text,
  commit text
);
create table attempts (
  id serial primary key,
  sha256 text not null unique,
  run integer not null references runs,
  stage text not null,
  source text not null,
  came_from text,
  exit_code integer,
  started timestamptz,
  ended timestamptz,
  facts jsonb not null
);
create index ix_attempts_run on attempts (run);
create table inputs (
  attempt integer references attempts,
  path text,
  md5 text not null,
  parent text,
  primary key (attempt, path)
);
create index ix_inputs_parent on inputs (parent);
create table trees (
  id serial primary key,
  md5 text not null unique,
  bytes bigint,
  files integer,
  rows bigint
);
create table outputs (
  attempt integer references attempts,
  path text,
  tree integer not null references trees,
  primary key (attempt, path)
);
create index ix_outputs_tree on outputs (tree);
create table files (
  id serial primary key,
  md5 text not null unique,
  bytes bigint,
  rows bigint,
  first timestamptz,
  last timestamptz,
  columns jsonb
);
create table paths (
  id serial primary key,
  path text not null unique
);
create table entries (
  tree integer references trees,
  path integer references paths,
  file integer not null references files,
  primary key (tree, path)
);
create index ix_entries_path on entries (path);
create index ix_entries_file on entries (file);
create table file_users (
  file integer primary key references files,
  users bigint[] not null
);
create index ix_file_users_users on file_users using gin (users);
create table sources (
  attempt integer references attempts,
  name text,
  place text,
  md5 text,
  rows bigint,
  primary key (attempt, name)
);
create index ix_sources_name on sources (name);
create table versions (
  name text,
  version integer,
  attempt integer references attempts,
  verdict text,
  primary key (name, version, attempt)
);
create index ix_versions_attempt on versions (attempt);
create table ancestry (
  attempt integer references attempts,
  ancestor integer references attempts,
  primary key (attempt, ancestor)
);
create index ix_ancestry_ancestor on ancestry (ancestor, attempt);
"""

PROMOTIONS = """
create table promotions (
  id bigserial primary key,
  target text not null,
  decided_at timestamptz not null,
  actor text not null,
  action text not null check (action in ('promote', 'rollback')),
  reason text not null,
  verdict_sha256 text,
  from_version integer,
  to_version integer not null,
  run_id text,
  previous_sha256 text not null,
  sha256 text not null,
  constraint uq_promotions_target_previous_sha256 unique (target, previous_sha256)
);
create function promotions_append_only() returns trigger language plpgsql as $$
begin
  raise exception 'promotions is append-only: % is refused', tg_op;
end $$;
create trigger promotions_append_only before update or delete on promotions
  for each row execute function promotions_append_only();
create trigger promotions_never_emptied before truncate on promotions
  for each statement execute function promotions_append_only();
"""


def upgrade() -> None:
    """Make every table."""
    op.execute(LINEAGE)
    op.execute(PROMOTIONS)
