"""Which state of the data a run was opened with: one digest for every source.

* Files: MD5 of the content. It is remembered by path, size and modification time, so that an unchanged file is not
  read twice; a file rewritten within its clock's resolution at equal size would be missed, as by DVC itself.
* Remote files: what the store says of them (ETag, or size and time).
* SQL: a table may change without a trace, so that its digest is never the same twice and every run reads it again,
  unless `version:` names its state, or `version_query:` asks the database for it (`SELECT max(updated_at) …`).
* Pseudonyms: the fingerprint of the key, since other pseudonyms are another snapshot.
* Feedback of the service (`<target>/feedback`): pinned by content when the run is opened (`feedback.py`), so that it
  cannot change afterwards.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path

from pipeline.data.dataset import WORLD_PREFIX, Dataset, Source, load_dataset
from pipeline.data.feedback import is_feedback
from pipeline.data.file_md5 import file_md5
from pipeline.data.pseudonyms import key_fingerprint, secret_key
from pipeline.data.schema import TABLES
from pipeline.exit_codes import BadConfiguration
from pipeline.settings import settings

KEY = "pseudonyms"


def source_digests(data: str) -> dict[str, str]:
    """Digest of every source of a dataset: `<domain>/<table>`, `dataset.yaml` and, for keyed ones, `pseudonyms`.

    The synthetic world has none: code, size and seed are all there is to it, and the graph tracks them.

    Raises:
        BadConfiguration: no such dataset, or a source that is not there.
    """
    if data.startswith(WORLD_PREFIX):
        load_dataset(data)
        return {}
    dataset = load_dataset(data)
    path = Path(data).expanduser()
    remembered = _Memory(settings().home / "cache" / "digests.json")
    found = {"dataset.yaml": remembered.md5(path / "dataset.yaml" if path.is_dir() else path)}
    for name, domain in dataset.domains.items():
        for table in TABLES:
            source = domain.table(table)
            if source is not None:
                found[f"{name}/{table}"] = digest(source, dataset.root, remembered)
    remembered.save()
    if dataset.pseudonyms == "keyed" and dataset.world is None:
        found[KEY] = key_fingerprint(secret_key())
    return found


def digest(source: Source, root: Path = Path(), memory: _Memory | None = None) -> str:
    """Digest of one source; see the module."""
    memory = memory or _Memory(settings().home / "cache" / "digests.json")
    if source.sql is not None:
        if source.version is not None:
            return f"version:{source.version}"
        if source.version_query is not None:
            from pipeline.data.sources import sql_scalar

            answer = sql_scalar(source, source.version_query, datetime.now(UTC))
            return f"query:{hashlib.md5(answer.encode(), usedforsecurity=False).hexdigest()}"
        return f"once:{uuid.uuid4().hex}"
    plain = "://" not in str(source.path) and not any(sign in str(source.path) for sign in "*?[")
    local = root / Path(str(source.path)).expanduser()
    if plain and local.is_file():
        return memory.md5(local)
    from pipeline.data.sources import source_files

    store, files = source_files(source, root)
    whole = hashlib.md5(usedforsecurity=False)
    for file in files:
        name = Path(file).name
        state = memory.md5(Path(file)) if Path(file).is_file() else str(store.checksum(file))
        whole.update(f"{name}\0{state}\0".encode())
    return whole.hexdigest()


def verify_digests(data: str, dataset: Dataset, opened_with: dict[str, str]) -> str | None:
    """What changed since the run was opened, as "metro/items", or None. Digests that are never equal do not count."""
    opened_with = {name: digest for name, digest in opened_with.items() if not is_feedback(name)}
    if not opened_with:
        return None
    now = source_digests(data)
    for name in sorted(set(now) | set(opened_with)):
        before, after = opened_with.get(name), now.get(name)
        if before != after and not (before or "").startswith("once:"):
            return name
    return None


class _Memory:
    """MD5 by (path, size, modification time), kept in a small JSON file. Losing it costs time only."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.known: dict[str, str] = {}
        self.changed = False
        with contextlib.suppress(OSError, ValueError):
            self.known = {str(key): str(value) for key, value in json.loads(file.read_text()).items()}

    def md5(self, path: Path) -> str:
        try:
            state = path.stat()
            key = f"{path.absolute()}|{state.st_size}|{state.st_mtime_ns}"
            if key not in self.known:
                self.known[key] = file_md5(path)
                self.changed = True
        except FileNotFoundError as error:
            raise BadConfiguration(f"{path} does not exist.") from error
        except PermissionError as error:
            raise BadConfiguration(f"{path} may not be read by this user; give it read permission.") from error
        return self.known[key]

    def save(self) -> None:
        if not self.changed:
            return
        with contextlib.suppress(OSError):  # no room for a memory is no reason not to run
            self.file.parent.mkdir(parents=True, exist_ok=True)
            draft = self.file.with_name(f"{self.file.name}.{os.getpid()}")
            draft.write_text(json.dumps(self.known, indent=0, sort_keys=True))
            draft.replace(self.file)
