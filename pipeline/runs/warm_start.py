"""`pretrain.warm_start: champion`: which backbone the run continues from, resolved when the run is opened.

The answer is the md5 of a folder in DVC's cache and becomes the parameter `pretrain.start`: an input like any other, so
that the run-cache, the manifest and `lineage reproduce` know what the night began with.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from pipeline.lineage.cache import find, listing
from pipeline.runs.dvc_lock import locked_outputs
from pipeline.runs.folders import record_folder, workspace_folder
from pipeline.settings import Settings

log = logging.getLogger(__name__)
CHAMPION = "champion"
BACKBONE = "models/backbone"


def champion_backbone(settings: Settings, targets: Sequence[str]) -> str | None:
    """md5 of the backbone behind the champion that learned last; None, and the night starts from scratch, without one.

    Raises:
        PassingFault: PostgreSQL does not answer.
    """
    runs = champion_runs(settings, targets)
    for run_id in runs:
        md5 = backbone_of(settings, run_id)
        if md5 is not None:
            log.info("pretrain continues from the backbone %s of run %s", md5[:12], run_id)
            return md5
    why = f"the cache has no backbone of {', '.join(runs)}" if runs else f"{', '.join(targets)} have no champion yet"
    log.warning("pretrain.warm_start: %s, so this run starts from scratch", why)
    return None


def champion_runs(settings: Settings, targets: Sequence[str]) -> list[str]:
    """Runs that made the champions of `targets`, the one with the latest as_of first."""
    from pipeline.lineage.champions import champion, model_of
    from pipeline.lineage.database import connected

    found: dict[str, str] = {}
    with connected(settings.postgres_url("warmstart")) as connection:
        for target in targets:
            version = champion(connection, model_of(target))
            if version is None:
                continue
            # the index learns of a run when it closes, the log when it promotes; a promotion by hand names no run
            row = connection.execute(
                """
                select coalesce(r.run_id, p.run_id), coalesce(r.as_of::text, '') from
                  (select run_id from promotions where target = %(target)s and to_version = %(version)s
                   order by run_id is null, id limit 1) p
                  left join lateral (select runs.run_id, runs.as_of from versions v
                    join attempts a on a.id = v.attempt join runs on runs.id = a.run
                    where v.name = %(name)s and v.version = %(version)s order by a.ended limit 1) r on true
                """,
                {"target": target, "version": version, "name": model_of(target)},
            ).fetchone()
            if row and row[0]:
                found[row[0]] = row[1]
    return sorted(found, key=lambda run_id: (found[run_id], run_id), reverse=True)


def backbone_of(settings: Settings, run_id: str) -> str | None:
    """md5 of the backbone a run trained, if the cache or the remote still has the whole of it."""
    folder = run_folder(settings, run_id)
    md5 = locked_outputs(folder).get(BACKBONE, {}).get("md5")
    if md5 is None:
        return None
    whole = find(settings, md5)
    return md5 if whole and all(find(settings, file["md5"]) for file in listing(whole)) else None


def run_folder(settings: Settings, run_id: str) -> Path:
    """The run's record; its workspace while it is open."""
    record = record_folder(settings.home, run_id)
    return record if record.exists() else workspace_folder(settings.home, run_id)
