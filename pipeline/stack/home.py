"""The folders and secrets of `$WARMSTART_HOME`, made before anything is started in it."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

from pipeline.exit_codes import BadConfiguration, PassingFault
from pipeline.settings import Settings
from pipeline.stack.credentials import create_credentials


def prepare_home(settings: Settings) -> None:
    """Make the folders and the secrets, and make sure that all of it can be written.

    Raises:
        BadConfiguration: the home or the folder of the sockets cannot be used.
        PassingFault: the disk is full.
    """
    home = settings.home
    try:
        for name in ("run", "logs", "mlflow/artifacts", "airflow/logs"):
            (home / name).mkdir(parents=True, exist_ok=True)
        (home / "secrets").mkdir(mode=0o700, exist_ok=True)
        # Airflow would write one of 120 kB with its defaults, to go stale at its next release.
        (home / "airflow" / "airflow.cfg").write_text("# Set by environment variables: pipeline/stack/airflow_env.py\n")
        with tempfile.TemporaryFile(dir=home) as probe:
            probe.write(b"warmstart")
        create_credentials(settings)
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise PassingFault(f"No space left for {home}: free some, or set WARMSTART_HOME elsewhere.") from error
        raise BadConfiguration(
            f"{home} cannot be written ({error.strerror}): make it writable, or set WARMSTART_HOME to a folder that is."
        ) from error
    prepare_socket_dir(settings.socket_dir)


def prepare_socket_dir(folder: Path) -> None:
    """Make the folder of the unix sockets. In /tmp anybody could have made it before us, and listen in it.

    Raises:
        BadConfiguration: the folder is another user's.
    """
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise BadConfiguration(
            f"{folder}, the folder for the unix sockets, belongs to somebody else: remove it, or choose a shorter "
            "WARMSTART_HOME (the sockets then lie in it)."
        )
    folder.chmod(0o711)


def remove_socket_dir(settings: Settings) -> None:
    """Leave nothing of ours outside of the home."""
    if not settings.socket_dir.is_relative_to(settings.home):
        shutil.rmtree(settings.socket_dir, ignore_errors=True)
