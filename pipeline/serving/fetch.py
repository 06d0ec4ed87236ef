"""Download one version's served folder, in a process of its own: MLflow's client would add 150 MB to the service.

python -m pipeline.serving.fetch rec-harbour 3 /path/to/cache
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.exit_codes import PassingFault
from pipeline.registry.champion import Version, content_digest

PATIENCE_S = 120.0
DIGEST = 64
KEPT = 8  # folders of the cache: a rollback finds its model here


def served_folder(version: Version, cache: Path) -> Path:
    """The folder of a version, from the cache if it is there whole, else downloaded and checked against its digest.

    Raises:
        PassingFault: it could not be downloaded, or is not what was registered.
    """
    name = version.content if len(version.content) == DIGEST else _key(version)
    folder = cache / name
    if folder.is_dir():
        os.utime(folder)
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".draft-") as draft:
        command = [sys.executable, "-m", "pipeline.serving.fetch", version.name, str(version.version), draft]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PATIENCE_S, check=False, preexec_fn=_behind
            )
        except subprocess.TimeoutExpired as error:
            raise PassingFault(f"{version.name}/{version.version} did not come within {PATIENCE_S:.0f} s") from error
        served = Path(draft) / "served"
        if done.returncode or not served.is_dir():
            last = (done.stderr.strip() or "it has no served folder").splitlines()[-1]
            raise PassingFault(f"{version.name}/{version.version} could not be downloaded: {last[:300]}")
        found = content_digest(served)
        if len(version.content) == DIGEST and found != version.content:
            raise PassingFault(
                f"{version.name}/{version.version} came as {found[:12]}, registered was {version.content[:12]}:"
                " files in MLflow's artifact store have changed"
            )
        if not folder.exists():
            served.rename(folder)
    _tidy(cache, folder)
    return folder


def _key(version: Version) -> str:
    return hashlib.sha256(f"{version.name}/{version.version}/{version.model_id}".encode()).hexdigest()


def _behind() -> None:
    os.nice(10)  # whoever waits for an answer goes first


def _tidy(cache: Path, fresh: Path) -> None:
    folders = [path for path in cache.iterdir() if len(path.name) == DIGEST and path.is_dir()]
    for old in sorted(folders, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT:]:
        if old != fresh:
            shutil.rmtree(old, ignore_errors=True)


def main() -> None:
    """In the child."""
    from pipeline.registry.champion import download
    from pipeline.runs.tracking import client

    name, number, into = sys.argv[1:]
    client()  # sets how long MLflow's client is patient, and keeps plugins away
    download(Version(name, int(number), ""), "served", Path(into))


if __name__ == "__main__":
    main()
