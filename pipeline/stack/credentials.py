"""Passwords and keys of the embedded Airflow: made once, kept with mode 600, never printed."""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pipeline.settings import Settings

AIRFLOW_USERS = ("admin", "viewer")


@dataclass(frozen=True)
class AirflowKeys:
    """What Airflow signs tokens and encrypts connections with. Losing it makes stored connections unreadable."""

    jwt_secret: str
    secret_key: str
    fernet_key: str

    @classmethod
    def new(cls) -> AirflowKeys:
        """Fresh random keys."""
        return cls(
            jwt_secret=secrets.token_urlsafe(48),
            secret_key=secrets.token_urlsafe(32),
            fernet_key=base64.urlsafe_b64encode(os.urandom(32)).decode(),
        )


def passwords_path(settings: Settings) -> Path:
    """JSON of user name → password, in the form that Airflow's SimpleAuthManager reads."""
    return settings.home / "secrets" / "airflow_passwords.json"


def airflow_passwords(settings: Settings) -> dict[str, str]:
    """The password of each Airflow user; those that are missing are made."""
    path = passwords_path(settings)
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    missing = {user: secrets.token_urlsafe(12) for user in AIRFLOW_USERS if user not in known}
    if missing:
        write_privately(path, json.dumps(known | missing, indent=2))
    path.chmod(0o600)
    return known | missing


def airflow_keys(settings: Settings) -> AirflowKeys:
    """The keys of this home, made on first use."""
    path = settings.home / "secrets" / "airflow_keys.json"
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    names = {field.name for field in fields(AirflowKeys)}
    keys = AirflowKeys(**(asdict(AirflowKeys.new()) | {k: v for k, v in known.items() if k in names}))
    if asdict(keys) != known:
        write_privately(path, json.dumps(asdict(keys), indent=2))
    return keys


def write_privately(path: Path, text: str) -> None:
    """Replace `path` whole, readable by its owner only from its first byte on."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)
