"""Airflow's `hostname_callable`. All of the embedded Airflow runs on this machine.

The name is where the API server fetches the log of a running task from. The machine's own name may have no address,
or one on which our log server, bound to the loopback interface, does not listen.
"""


def loopback() -> str:
    """The name under which every task of this stack is reached."""
    return "localhost"
