"""Fetching a published archive: checksummed, and nothing unpacked that was not asked for."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from pathlib import Path

import httpx

from pipeline.exit_codes import BadConfiguration, DataBrokeContract, PassingFault
from pipeline.settings import settings


def fetch_and_unpack(url: str, members: tuple[str, ...], md5: str | None, cache: Path | None = None) -> Path:
    """Fetch a zip, check it, and unpack some of its files; the folder they lie in.

    Args:
        members: file names, wherever in the archive they lie.
        md5: the expected checksum; None takes the one published beside the archive as `<url>.md5`.
        cache: default `$WARMSTART_HOME/downloads`; what is there and right is not fetched again.

    Raises:
        DataBrokeContract: the archive is not the published one.
        BadConfiguration: the address does not exist.
        PassingFault: the server did not answer.
    """
    folder = (cache or settings().home / "downloads") / Path(url).stem
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / Path(url).name
    expected = md5 or published_md5(url)
    if not archive.is_file() or _md5(archive) != expected:
        _fetch(url, archive)
        found = _md5(archive)
        if found != expected:
            archive.unlink()
            raise DataBrokeContract(
                f"{url}: the archive's MD5 is {found}, expected {expected}; fetch it again or by hand and give --from."
            )
    _unpack(archive, members, folder)
    return folder


def published_md5(url: str) -> str:
    """The checksum beside an archive; GroupLens writes `MD5 (name) = digits` or `digits  name`."""
    answer = _get(f"{url}.md5").text
    found = re.search(r"\b[0-9a-f]{32}\b", answer)
    if found is None:
        raise DataBrokeContract(f"{url}.md5 holds no MD5 but {answer[:60]!r}.")
    return found.group()


def _get(url: str) -> httpx.Response:
    try:
        answer = httpx.get(url, follow_redirects=True, timeout=30)
    except httpx.HTTPError as error:
        raise PassingFault(f"{url} did not answer ({error or type(error).__name__}); is there a network?") from error
    _refuse_status(url, answer.status_code)
    return answer


def _refuse_status(url: str, status: int) -> None:
    if status >= 500 or status == 429:
        raise PassingFault(f"{url} answered {status}; try again later.")
    if status >= 400:
        raise BadConfiguration(f"{url} answered {status}: it is not there.")


def _fetch(url: str, archive: Path) -> None:
    draft = archive.with_suffix(".part")
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=60) as answer, draft.open("wb") as file:
            _refuse_status(url, answer.status_code)
            for block in answer.iter_bytes(1 << 20):
                file.write(block)
    except httpx.HTTPError as error:
        raise PassingFault(f"{url} broke off ({error or type(error).__name__}); try again.") from error
    draft.replace(archive)


def _unpack(archive: Path, members: tuple[str, ...], folder: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        by_name = {Path(entry.filename).name: entry for entry in packed.infolist() if not entry.is_dir()}
        for name in members:
            if name not in by_name:
                raise DataBrokeContract(f"{archive} has no {name}, only {', '.join(sorted(by_name))}.")
            # Only the name is taken from the archive, never a path.
            with packed.open(by_name[name]) as source, (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target)


def _md5(path: Path) -> str:
    whole = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            whole.update(block)
    return whole.hexdigest()
