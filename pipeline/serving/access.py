"""Who may ask for what: API keys by target and role, and how often.

The keys stand in `$WARMSTART_HOME/secrets/api_keys.json` (mode 600, made on first start with one key that may do
everything). The file is read again when it changes:

    {"keys": [{"name": "shop", "key": "ws_…", "targets": ["harbour"], "roles": ["recommend", "feedback"],
               "requests_per_second": 500}]}
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.exit_codes import BadConfiguration

log = logging.getLogger("pipeline.serving")

Role = Literal["recommend", "feedback", "items", "admin"]
ROLES: tuple[str, ...] = get_args(Role)
EVERY = "*"
LOOK_SECONDS = 1.0  # between looks at the file's time
DEFAULT_RATE = 5000.0  # requests a second: against a caller gone wild, not against load


class KeyEntry(BaseModel):
    """One key as it stands in the file."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1, description="whose it is; the log names it")
    key: str = Field(min_length=16)
    targets: list[str] = Field(default_factory=lambda: [EVERY])
    roles: list[Role] = Field(default_factory=lambda: list(ROLES))  # type: ignore[arg-type]
    requests_per_second: float = Field(DEFAULT_RATE, gt=0)


class KeyFile(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="forbid")

    keys: list[KeyEntry]


@dataclass
class Caller:
    """Whoever has a key, and the token bucket of it: a second's worth of requests may come at once."""

    name: str
    targets: frozenset[str]
    roles: frozenset[str]
    rate: float
    _tokens: float = field(default=0.0, init=False)
    _at: float = field(default_factory=time.monotonic, init=False)

    def __post_init__(self) -> None:
        self._tokens = max(self.rate, 1.0)

    def may(self, role: str, target: str | None) -> bool:
        """Does the key reach so far? `target` None: for what belongs to no target."""
        return role in self.roles and (target is None or EVERY in self.targets or target in self.targets)

    def wait(self) -> float:
        """Take a token: 0.0, or the seconds until there is one."""
        now = time.monotonic()
        self._tokens = min(max(self.rate, 1.0), self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens < 1.0:
            return (1.0 - self._tokens) / self.rate
        self._tokens -= 1.0
        return 0.0


class Access:
    """The keys of a file, read again when it changes."""

    def __init__(self, path: Path) -> None:
        """Raises:
        BadConfiguration: the file cannot be read or made, or is not what it should be.
        """
        self.path = path
        self._looked = 0.0
        self._stamp: tuple[int, int] | None = None
        self._callers: dict[bytes, Caller] = {}
        make_keys(path)
        self.refresh()

    def refresh(self) -> None:
        """Read the file if it has changed; every bucket is full again then.

        Raises:
            BadConfiguration: it is broken; the keys of before stay.
        """
        self._looked = time.monotonic()
        try:
            status = self.path.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp == self._stamp:
                return
            self._stamp = stamp
            found = KeyFile.model_validate_json(self.path.read_bytes())
        except (OSError, ValidationError) as error:
            wrong = error.errors() if isinstance(error, ValidationError) else []
            said = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in wrong) or str(error)
            raise BadConfiguration(f"{self.path} should hold the API keys: {said}") from error
        self._callers = {
            _digest(entry.key.encode()): Caller(
                entry.name, frozenset(entry.targets), frozenset(entry.roles), entry.requests_per_second
            )
            for entry in found.keys
        }

    def caller(self, key: bytes) -> Caller | None:
        """Whose key it is. Looked up by its hash: the time it takes says nothing of the keys."""
        if time.monotonic() - self._looked > LOOK_SECONDS:
            try:
                self.refresh()
            except BadConfiguration as fault:  # told once: the file is read again when it changes again
                log.error("the keys of before stay", extra={"fields": {"why": str(fault)}})
        return self._callers.get(_digest(key)) if key else None


def make_keys(path: Path) -> None:
    """Make the file with one key if there is none; the first of several processes wins."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = f"ws_{secrets.token_urlsafe(24)}"
    entry: dict[str, Any] = KeyEntry.model_validate({"name": "first", "key": key}).model_dump()
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(json.dumps({"keys": [entry]}, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def keys_path(home: Path) -> Path:
    """Where the keys of a home stand."""
    return home / "secrets" / "api_keys.json"


def first_key(home: Path) -> str:
    """A key that may do everything, for clients on this machine (simulation, benchmarks).

    Raises:
        BadConfiguration: there is none in the file.
    """
    make_keys(keys_path(home))
    for entry in KeyFile.model_validate_json(keys_path(home).read_bytes()).keys:
        if set(entry.roles) == set(ROLES) and EVERY in entry.targets:
            return entry.key
    raise BadConfiguration(f"{keys_path(home)} holds no key with every role for every target ({EVERY})")


def _digest(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=16).digest()
