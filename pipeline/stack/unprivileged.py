"""Becoming an ordinary user, as PostgreSQL demands of root, and still getting to its folders and binaries.

They lie below folders that may be closed to that user: /root, a temporary folder of mode 700. Opening those would
change what is not ours, and whoever closes one again (pytest does so at the start of each session) would crash the
server. So the one capability that matters is kept: to read and pass. Only where the system does not grant that (not
Linux, a container stripped of it), the folders on the way get the right to pass (x) for others.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import stat
from pathlib import Path

CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2  # linux/capability.h; containers often have only the first, wider one
CAP_SETPCAP = 8
PR_SET_SECUREBITS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 28, 47, 2  # linux/prctl.h
SECBIT_NO_SETUID_FIXUP = 1 << 2  # linux/securebits.h
CAPABILITY_VERSION_3 = 0x20080522


def passing_capability() -> int | None:
    """The least capability of this process with which closed folders can be passed, or None."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    permitted = int(next(line.split()[1] for line in status.splitlines() if line.startswith("CapPrm:")), 16)
    if not permitted >> CAP_SETPCAP & 1:
        return None
    return next((cap for cap in (CAP_DAC_READ_SEARCH, CAP_DAC_OVERRIDE) if permitted >> cap & 1), None)


def become(user: pwd.struct_passwd, capability: int | None) -> None:
    """Give up being root for good, but for one capability, which the programs run from here on keep.

    Raises:
        OSError: the system refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if capability is not None:
        # Capabilities outlive setuid, and access(2), by which initdb looks for `postgres`, honours them; without this
        # bit it asks what the bare user may do. They are cut down to the one below.
        _check(libc.prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0))
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    if capability is not None:
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        mask = 1 << capability
        sets = (ctypes.c_uint32 * 6)(
            mask, mask, mask, 0, 0, 0
        )  # effective, permitted, inheritable: low half, high half
        _check(libc.capset(ctypes.byref(header), ctypes.byref(sets)))
        _check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0))


def _check(result: int) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def allow_passage(path: Path) -> None:
    """Let other users walk through the folders above `path`: x, not r, and only where it is missing."""
    for folder in path.parents:
        mode = folder.stat().st_mode
        if not mode & stat.S_IXOTH:
            folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
