"""What a container of a stage knows of the environment: the settings, the servers' addresses and logins, its task.

An allow-list by prefix: Airflow's own keys, the shell of whoever started the stack and the logins of other programs
stay outside. `WARMSTART_PASS` names further variables, for `${NAME}` in a dataset's SQL address.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

PASSED = ("WARMSTART_", "MLFLOW_", "OPENLINEAGE", "AWS_", "FSSPEC_")
AIRFLOW_LOGIN = ("WARMSTART_AIRFLOW_USER", "WARMSTART_AIRFLOW_PASSWORD")
# of the machine, or of the orchestrator: no stage has a use for them
WITHHELD = frozenset(
    {
        "WARMSTART_PYTHON",
        *AIRFLOW_LOGIN,
        "WARMSTART_STACK",
        "WARMSTART_SERVICE",
        "WARMSTART_PASS",
    }
)
PASS = "WARMSTART_PASS"
_SECRET_NAME = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL|_KEY$|_KEY_ID$|API_KEY", re.IGNORECASE)
_LOGIN_IN_URL = re.compile(r"://[^/@\s]+@")


def container_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """The variables that a container gets, sorted; secrets are among them."""
    named = set(inherited.get(PASS, "").replace(",", " ").split())
    passed = {k: v for k, v in inherited.items() if k in named or (k.startswith(PASSED) and k not in WITHHELD)}
    return dict(sorted(passed.items()))


def is_secret(name: str, value: str, inherited: Mapping[str, str]) -> bool:
    """Whether a variable may not be read by whoever may read a task's or a pod's description."""
    named = inherited.get(PASS, "").replace(",", " ").split()
    return name in named or bool(_SECRET_NAME.search(name) or _LOGIN_IN_URL.search(value))


def checkout_environment(inherited: Mapping[str, str]) -> dict[str, str]:
    """What opening and closing a run needs besides: Airflow's login, and a git that reads another user's checkout."""
    login = {name: inherited[name] for name in AIRFLOW_LOGIN if name in inherited}
    return {**login, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
