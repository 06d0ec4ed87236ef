"""Which exit code an exception means: is it the data, the configuration, or something that passes?

Libraries raise their own types for "the server went away". They are recognised by the name of the class and of its
parents, so that this file imports none of them.
"""

from __future__ import annotations

import errno

from pipeline.exit_codes import BAD_CONFIGURATION, BROKE, PASSING_FAULT, StageError

# (top-level package, class name): a server that is away, restarting or overloaded
_SERVER_AWAY = {
    ("sqlalchemy", "OperationalError"),
    ("sqlalchemy", "InterfaceError"),
    ("psycopg", "OperationalError"),
    ("psycopg_pool", "PoolTimeout"),
    ("redis", "ConnectionError"),
    ("redis", "TimeoutError"),
    ("requests", "ConnectionError"),
    ("requests", "Timeout"),
    ("urllib3", "HTTPError"),
    ("httpx", "TransportError"),
}
_DISK = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_DENIED = {
    errno.EACCES: "no permission",
    errno.EPERM: "not permitted",
    errno.EROFS: "the file system is read-only",
}


def explain(fault: BaseException) -> tuple[int, str]:
    """(exit code, one sentence) for an exception that ended a stage."""
    if isinstance(fault, StageError):
        return fault.exit_code, str(fault)
    if isinstance(fault, MemoryError):
        return PASSING_FAULT, "not enough memory; raise `memory` in the stage's meta or lower its batch size"
    if isinstance(fault, OSError) and fault.errno in _DISK:
        return (
            PASSING_FAULT,
            f"{_DISK[fault.errno]} at {fault.filename or 'the workspace'}; free some space, the run resumes",
        )
    if isinstance(fault, OSError) and fault.errno in _DENIED:
        return BAD_CONFIGURATION, f"{_DENIED[fault.errno]}: {fault.filename}; give this user the right to it"
    if isinstance(fault, ConnectionError) or _server_away(fault):
        return (
            PASSING_FAULT,
            f"a server does not answer: {_first_line(fault)}; `warmstart status` shows which",
        )
    return BROKE, f"{type(fault).__name__}: {_first_line(fault)}"


def _server_away(fault: BaseException) -> bool:
    kinds = {(kind.__module__.split(".")[0], kind.__name__) for kind in type(fault).__mro__}
    if kinds & _SERVER_AWAY:
        return True
    if ("mlflow", "MlflowException") in kinds:
        # MLflow wraps transport errors and 5xx answers alike; its text is all there is
        text = str(fault)
        return "Max retries exceeded" in text or "too many 5" in text or "error code 50" in text
    return False


def _first_line(fault: BaseException) -> str:
    lines = str(fault).strip().splitlines()
    return lines[0][:300] if lines else "no message"
