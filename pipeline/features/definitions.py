"""Which feature definitions a run used: hashes of what is applied to Feast's registry.

Not of the registry itself, which holds the moment it was written. Imports Feast.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path, PurePath
from typing import Any

from pipeline.features.feast_import import import_feast
from pipeline.features.store import REPOSITORY, feature_repository


def applied_definitions() -> dict[str, Any]:
    """For the manifest of a stage that asks Feast.

    Returns:
        `registry`: sha256 over the entities, views and services; `views`: sha256 of each view by name; `definitions`:
        sha256 over the files of `feature_repo`.
    """
    import_feast()
    from google.protobuf.json_format import MessageToDict

    def spec(definition: Any) -> Any:
        return _lasting(MessageToDict(definition.to_proto().spec))

    repository = feature_repository()
    views = repository.views.feature_views(Path("data/features"))
    services = repository.services.feature_services(views)
    entities = [repository.entities.user, repository.entities.item, repository.entities.domain]
    specs = {
        "entities": {entity.name: spec(entity) for entity in entities},
        "views": {name: spec(view) for name, view in views.items()},
        "services": {name: spec(service) for name, service in services.items()},
    }
    files = [path for path in REPOSITORY.iterdir() if path.suffix in (".py", ".yaml")]
    return {
        "registry": _sha256(specs),
        "views": {name: _sha256(told) for name, told in specs["views"].items()},
        "definitions": _sha256({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}),
    }


def _lasting(spec: Any) -> Any:
    """A definition without the moment it was made and the folder it was made in."""
    if isinstance(spec, list):
        return [_lasting(part) for part in spec]
    if not isinstance(spec, dict):
        return spec
    return {k: PurePath(v).name if k == "uri" else _lasting(v) for k, v in spec.items() if k != "meta"}


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
