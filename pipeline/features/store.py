"""Feast as this project uses it: open a store, and ask it what was known when.

Importing this module is cheap; opening a store imports Feast (seconds).
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import re
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import polars as pl
import yaml

from pipeline.features.feast_import import import_feast
from pipeline.settings import CHECKOUT

if TYPE_CHECKING:
    from feast import FeatureStore

REPOSITORY = CHECKOUT / "feature_repo"
VIEWS = ("user_profile", "user_footprint", "user_activity", "user_history", "item_statistics")
JOIN_KEYS = {
    "user_profile": ("user_id",),
    "user_footprint": ("user_id",),
    "user_activity": ("user_id", "domain"),
    "user_history": ("user_id", "domain"),
    "item_statistics": ("item_id", "domain"),
}
ROW = "row_number"
LONGEST_PROJECT = 30  # PostgreSQL cuts names at 63 bytes; Feast appends the view


def open_store(
    features: Path,
    project: str,
    registry: Mapping[str, Any] | str,
    online_store: Mapping[str, Any] | None = None,
) -> FeatureStore:
    """Apply `feature_repo` over the tables in `features` to a registry, and open it.

    Args:
        features: folder of the feature tables.
        project: Feast project; letters, digits and underscores.
        registry: a file, or Feast's settings of a registry.
        online_store: Feast's settings of an online store; None for retrieval alone.
    """
    import_feast()
    from feast import FeatureStore, RepoConfig

    # Feast turns deprecation warnings on for everyone; ibis and duckdb have plenty
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.getLogger("feast").setLevel(logging.WARNING)  # a line a registry look-up

    settings = yaml.safe_load((REPOSITORY / "feature_store.yaml").read_text("utf-8"))
    settings |= {"project": project, "registry": registry, "online_store": online_store}
    store = FeatureStore(config=RepoConfig(**settings, repo_path=REPOSITORY))
    repository = feature_repository()
    views = repository.views.feature_views(features.absolute())
    services = repository.services.feature_services(views)
    entities = [repository.entities.user, repository.entities.item, repository.entities.domain]
    store.apply([*entities, *views.values(), *services.values()])
    return store


def point_in_time_join(store: FeatureStore, rows: pl.DataFrame, service: str, full_names: bool = False) -> pl.DataFrame:
    """Features of `rows` as they were known at each row's `event_timestamp`, in the order of `rows`.

    Args:
        store: an open store.
        rows: the join keys of the service and `event_timestamp`.
        service: name of a feature service.
        full_names: call the features `<view>__<feature>`, for services in which two views share a name.

    Returns:
        `rows` with a column a feature; null where nothing was known yet.

    Raises:
        RuntimeError: Feast gave back another number of rows than it was asked for. Its default offline store
            does so silently for users older than their first feature.
    """
    asked = rows.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(ROW))
    job = store.get_historical_features(
        entity_df=asked.to_pandas(),
        features=store.get_feature_service(service),
        full_feature_names=full_names,
        filter_by_created_timestamp=True,
    )
    answer = pl.DataFrame(job.to_arrow())
    if answer.height != rows.height:
        raise RuntimeError(f"Feast was asked for {rows.height:,} rows and gave {answer.height:,}")
    return answer.sort(ROW).drop(ROW)


def project_name(dataset: str) -> str:
    """The Feast project of a dataset: letters, digits and underscores, short enough for names of tables."""
    plain = re.sub(r"[^a-z0-9]+", "_", dataset.lower()).strip("_")
    if plain and len(plain) <= LONGEST_PROJECT:
        return plain
    return f"{plain[:LONGEST_PROJECT]}_{hashlib.sha256(dataset.encode()).hexdigest()[:8]}".strip("_")


def feature_repository() -> ModuleType:
    """The package `feature_repo` of this checkout; it is not installed, so it is loaded from where it stands."""
    if "feature_repo" not in sys.modules:
        spec = importlib.util.spec_from_file_location(
            "feature_repo", REPOSITORY / "__init__.py", submodule_search_locations=[str(REPOSITORY)]
        )
        assert spec is not None and spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        sys.modules["feature_repo"] = package
        spec.loader.exec_module(package)
    for name in ("entities", "views", "services"):
        importlib.import_module(f"feature_repo.{name}")
    return sys.modules["feature_repo"]
