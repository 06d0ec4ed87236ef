"""The online store as Feast sees it: PostgreSQL, or Redis where `WARMSTART_ONLINE_STORE_URL` names one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import polars as pl

from pipeline.features.store import open_store
from pipeline.settings import Settings

if TYPE_CHECKING:
    from feast import FeatureStore

SERIALIZATION_VERSION = 3


def store_name(settings: Settings) -> str:
    """Which online store it is, without its password."""
    if settings.online_store_url is None:
        return "postgres"
    parts = urlsplit(settings.online_store_url)
    return f"redis {parts.hostname}:{parts.port or 6379}{parts.path}"


def open_online_store(settings: Settings, features: Path, project: str) -> FeatureStore:
    """Feast with its registry in PostgreSQL and the online store of the settings; applies `feature_repo`."""
    registry = {
        "registry_type": "sql",
        "path": settings.postgres_url("feast", "psycopg"),
        "cache_ttl_seconds": 3600,  # nobody else changes the views while we push
    }
    return open_store(features, project, registry, online_store_config(settings))


def online_store_config(settings: Settings) -> dict[str, Any]:
    """Feast's settings of the online store."""
    if settings.online_store_url is not None:
        return _redis_config(settings.online_store_url)
    from psycopg.conninfo import conninfo_to_dict

    parts = conninfo_to_dict(settings.postgres_url("feast"))
    return {
        "type": "postgres",
        "host": str(parts.get("host", "localhost")),
        "port": int(parts.get("port") or 5432),
        "database": str(parts["dbname"]),
        "user": str(parts.get("user", "postgres")),
        "password": str(parts.get("password") or ""),
        "sslmode": str(parts.get("sslmode") or "prefer"),
    }


def _redis_config(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    options = {
        "db": parts.path.strip("/") or None,
        "username": parts.username,
        "password": parts.password,
        "ssl": "true" if parts.scheme == "rediss" else None,
    }
    given = "".join(f",{name}={value}" for name, value in options.items() if value)
    return {
        "type": "redis",
        "connection_string": f"{parts.hostname}:{parts.port or 6379}{given}",
        # else a state whose newest event is the same, one late event richer, is taken for a repetition
        "skip_dedup": True,
    }


def push(store: FeatureStore, view: str, rows: pl.DataFrame, at_most: int) -> None:
    """Write states to the online store, `at_most` rows at a time; repeating it changes nothing."""
    for part in rows.iter_slices(at_most):
        store.write_to_online_store(view, df=part.to_pandas())


def remove_vanished(settings: Settings, store: FeatureStore, view: str, keys: pl.DataFrame) -> int:
    """Remove from PostgreSQL the states of keys that the data no longer has, e.g. of a removed user.

    In Redis such states stay until they are overwritten; give its database an expiry if that matters.

    Args:
        settings: where PostgreSQL is.
        store: the online store.
        view: name of the view.
        keys: every key the table has.

    Returns:
        The number of keys removed.
    """
    if settings.online_store_url is not None:
        return 0
    import psycopg
    from feast.infra.online_stores.helpers import compute_table_id
    from psycopg import sql

    table = sql.Identifier(compute_table_id(store.project, store.get_feature_view(view)))
    vanished = sql.SQL(
        "delete from {} as online where not exists"
        " (select from kept where kept.entity_key = online.entity_key) returning entity_key"
    )
    with psycopg.connect(settings.postgres_url("feast")) as connection:
        connection.execute("create temp table kept (entity_key bytea) on commit drop")
        with connection.cursor().copy("copy kept from stdin") as copy:
            for key in serialized_keys(keys):
                copy.write_row((key,))
        return len({key for (key,) in connection.execute(vanished.format(table))})


def serialized_keys(keys: pl.DataFrame) -> list[bytes]:
    """The keys as Feast stores them; each once."""
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    return [
        serialize_entity_key(
            EntityKey(join_keys=keys.columns, entity_values=[Value(string_val=part) for part in row]),
            entity_key_serialization_version=SERIALIZATION_VERSION,
        )
        for row in keys.unique().iter_rows()
    ]
