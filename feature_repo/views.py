"""The feature views, each over one Parquet file of `data/features`.

Every row has two clocks (see `pipeline/features/knowledge.py`). Retrieve with
`filter_by_created_timestamp=True`, or late rows leak into the past.
Times are microseconds since 1970 UTC; a feature that is null is not known yet.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureView, Field, FileSource
from feast.types import Array, Float64, Int64, String

from feature_repo.entities import domain, item, user

FOREVER = timedelta(0)  # Feast's spelling of "no time to live"


def feature_views(folder: Path) -> dict[str, FeatureView]:
    """The views by name, over the tables in `folder`."""
    views = [
        _view(
            folder,
            "user_profile",
            [user],
            "What users told of themselves, over all domains.",
            [Field(name="attributes", dtype=Array(String))],
        ),
        _view(
            folder,
            "user_footprint",
            [user],
            "How much a user has done anywhere.",
            [
                Field(name="n_interactions", dtype=Int64),
                Field(name="n_domains", dtype=Int64),
                Field(name="first_time", dtype=Int64),
                Field(name="last_time", dtype=Int64),
            ],
        ),
        _view(
            folder,
            "user_activity",
            [user, domain],
            "How much a user has done in one domain.",
            [
                Field(name="n_interactions", dtype=Int64),
                Field(name="mean_value", dtype=Float64),
                Field(name="first_time", dtype=Int64),
                Field(name="last_time", dtype=Int64),
            ],
        ),
        _view(
            folder,
            "user_history",
            [user, domain],
            "The last interactions of a user in one domain, chronological; at most a day stale.",
            [Field(name="item_ids", dtype=Array(String)), Field(name="times", dtype=Array(Int64))],
        ),
        _view(
            folder,
            "item_statistics",
            [item, domain],
            "How much an item is wanted; at most a day stale.",
            [
                Field(name="n_interactions", dtype=Int64),
                Field(name="recent_interactions", dtype=Float64),
                Field(name="mean_value", dtype=Float64),
                Field(name="last_time", dtype=Int64),
            ],
        ),
    ]
    return {view.name: view for view in views}


def _view(folder: Path, name: str, entities: list[Entity], description: str, schema: list[Field]) -> FeatureView:
    source = FileSource(
        name=name,
        path=str(folder / f"{name}.parquet"),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
    )
    keys = [Field(name=entity.join_key, dtype=String) for entity in entities]
    return FeatureView(
        name=name,
        entities=entities,
        ttl=FOREVER,
        schema=[*keys, *schema],
        source=source,
        online=True,
        description=description,
    )
