"""What is below each attempt in one row of its own, and indexes that are read in place of wide rows."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

TABLE = """
create table descent (
  attempt integer primary key references attempts,
  run integer not null references runs,
  failed integer[] not null,
  registered integer[] not null,
  paths integer[] not null,
  trees integer[] not null
);
create index ix_descent_run on descent (run);
create index ix_attempts_id on attempts (id) include (run, source, ended);
create index ix_outputs_path on outputs (path, tree);
"""

# what an index of the earlier release has already
FILL = """
insert into paths (path) select distinct path from outputs on conflict do nothing;
insert into descent (attempt, run, failed, registered, paths, trees)
with reached as materialized (
  select id as attempt, id as below from attempts union all select ancestor, attempt from ancestry
), failed as (
  select attempt, array_agg(below order by below) as failed
  from reached join attempts a on a.id = below where a.source = 'failed' group by attempt
), registered as (
  select attempt, array_agg(below order by below) as registered
  from reached where below in (select attempt from versions) group by attempt
), written as (
  select reached.attempt, array_agg(p.id order by below, p.id) as paths, array_agg(o.tree order by below, p.id) as trees
  from reached join outputs o on o.attempt = below join paths p on p.path = o.path group by reached.attempt
)
select id, run, coalesce(failed, '{}'), coalesce(registered, '{}'), coalesce(paths, '{}'), coalesce(trees, '{}')
from attempts left join failed on failed.attempt = id left join registered on registered.attempt = id
left join written on written.attempt = id;
"""


def upgrade() -> None:
    """Make the table and the indexes, and fill the table."""
    op.execute(TABLE)
    op.execute(FILL)
