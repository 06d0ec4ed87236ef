"""Passwords and keys of the embedded Airflow: made once, kept with mode 600, never printed."""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.exit_codes import BadConfiguration
from pipeline.settings import Settings

AIRFLOW_USERS = ("admin", "viewer")


@dataclass(frozen=True)
class AirflowKeys:
    """What Airflow signs tokens and encrypts connections with. Losing it makes stored connections unreadable."""

    jwt_secret: str = ""
    secret_key: str = ""
    fernet_key: str = ""

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


def keys_path(settings: Settings) -> Path:
    """JSON of `AirflowKeys`."""
    return settings.home / "secrets" / "airflow_keys.json"


def create_credentials(settings: Settings) -> None:
    """Make the passwords and keys that are missing; those that are there stay."""
    passwords = airflow_passwords(settings)
    new = {user: secrets.token_urlsafe(12) for user in AIRFLOW_USERS if user not in passwords}
    if new:
        write_privately(passwords_path(settings), json.dumps(passwords | new, indent=2))
    passwords_path(settings).chmod(0o600)
    if not all(asdict(airflow_keys(settings)).values()):
        write_privately(keys_path(settings), json.dumps(asdict(AirflowKeys.new()), indent=2))


def airflow_passwords(settings: Settings) -> dict[str, str]:
    """The password of each Airflow user; empty before the first `up`."""
    path = passwords_path(settings)
    found: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return found


def airflow_login(settings: Settings) -> tuple[str, str]:
    """User and password that may trigger runs: from the settings, or the embedded Airflow's own admin.

    Raises:
        BadConfiguration: another Airflow is set, and no password for it.
    """
    if settings.airflow_password is not None:
        return settings.airflow_user, settings.airflow_password.get_secret_value()
    if settings.airflow_api_url is not None:
        raise BadConfiguration(
            f"WARMSTART_AIRFLOW_API_URL is {settings.airflow_api_url}, but nothing says how to log in there; "
            "set WARMSTART_AIRFLOW_USER and WARMSTART_AIRFLOW_PASSWORD"
        )
    return settings.airflow_user, airflow_passwords(settings)[settings.airflow_user]


def airflow_keys(settings: Settings) -> AirflowKeys:
    """The keys of this home; empty ones before the first `up`."""
    path = keys_path(settings)
    return AirflowKeys(**json.loads(path.read_text())) if path.exists() else AirflowKeys()


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
