"""What Feast's online store knows of users, many at a time.

Feast's `get_online_features` looks up the registry and builds a response object for every call (tens of milliseconds).
A server knows the views already, so it asks the online store itself: `OnlineStore.online_read`, which is the same for
PostgreSQL and Redis, one query a view however many users.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from psycopg.errors import UndefinedTable

from pipeline.features.feast_import import import_feast
from pipeline.features.online_store import SERIALIZATION_VERSION, online_store_config
from pipeline.features.store import JOIN_KEYS, feature_repository
from pipeline.settings import Settings

Features = dict[str, Any]


@dataclass(frozen=True)
class Known:
    """Online features of one user; None where the store has no row.

    Attributes:
        profile: `user_profile`.
        activity: `user_activity` by domain, only those with a row; the footprint is their sum (`at_sequence_start`).
        item_ids, times: `user_history` in the target domain, chronological; microseconds UTC.
    """

    profile: Features | None = None
    activity: dict[str, Features] = field(default_factory=dict)
    item_ids: Sequence[str] = ()
    times: Sequence[int] = ()


class OnlineFeatures:
    """The online store of the settings. Not for several threads at once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: Any = None
        self._configs: dict[str, Any] = {}
        self._views: dict[str, Any] = {}

    def read(self, project: str, target: str, domains: Sequence[str], user_ids: Sequence[str]) -> list[Known]:
        """Features of users, in their order.

        Args:
            project: Feast's, of the dataset the model was trained on.
            target: the domain whose history is wanted.
            domains: whose activity is wanted.
            user_ids: pseudonyms.

        Raises:
            Exception: whatever the store's client raises; the connection is made anew next time.
        """
        try:
            users = [{"user_id": user} for user in user_ids]
            profile = self._read(project, "user_profile", users)
            pairs = [{"user_id": user, "domain": domain} for user in user_ids for domain in domains]
            activity = self._read(project, "user_activity", pairs)
            history = self._read(project, "user_history", [{"user_id": user, "domain": target} for user in user_ids])
        except Exception:
            self._store = None
            raise
        found = []
        for row in range(len(user_ids)):
            own = activity[row * len(domains) : (row + 1) * len(domains)]
            past = history[row] or {}
            found.append(
                Known(
                    profile[row],
                    {domain: told for domain, told in zip(domains, own, strict=True) if told is not None},
                    past.get("item_ids") or (),
                    past.get("times") or (),
                )
            )
        return found

    def _read(self, project: str, view: str, keys: Sequence[dict[str, str]]) -> list[Features | None]:
        if not keys:
            return []
        if self._store is None:
            self._open()
        from feast.protos.feast.types.EntityKey_pb2 import EntityKey
        from feast.protos.feast.types.Value_pb2 import Value

        asked = [
            EntityKey(join_keys=JOIN_KEYS[view], entity_values=[Value(string_val=key[k]) for k in JOIN_KEYS[view]])
            for key in keys
        ]
        wanted = [feature.name for feature in self._views[view].features]
        try:
            rows = self._store.online_read(self._config(project), self._views[view], asked, wanted)
        except UndefinedTable:  # no run has materialised this project yet
            return [None] * len(keys)
        return [None if row is None else {name: _python(value) for name, value in row.items()} for _, row in rows]

    def _open(self) -> None:
        import_feast()
        from feast.infra.online_stores.helpers import get_online_store_from_config

        if not self._views:
            self._views = feature_repository().views.feature_views(Path(tempfile.gettempdir()))
        self._configs.clear()
        self._store = get_online_store_from_config(self._config("any").online_store)

    def _config(self, project: str) -> Any:
        if project not in self._configs:
            from feast import RepoConfig

            self._configs[project] = RepoConfig(
                project=project,
                provider="local",
                registry="not asked",
                online_store=online_store_config(self._settings),
                entity_key_serialization_version=SERIALIZATION_VERSION,
            )
        return self._configs[project]


def _python(value: Any) -> Any:
    kind = value.WhichOneof("val")
    if kind is None or kind == "null_val":
        return None
    found = getattr(value, kind)
    return list(found.val) if kind.endswith("list_val") else found
