"""Alembic's entry: it runs on the connection that `schema.upgrade` hands over, in that one transaction.

A new revision is written by hand, as `versions/NNNN_what.py`; `database.HEAD` names the newest, and a test compares
what all of them make with the tables of `schema.py`.
"""

from __future__ import annotations

from alembic import context

from pipeline.lineage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
