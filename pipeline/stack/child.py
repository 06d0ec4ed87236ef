"""`python -m pipeline.stack.child SERVICES_JSON NAME`: what supervisord runs in place of a server.

It ends whatever an earlier life of the same service left behind, then becomes the server (exec). When a server is
killed with -9, its own children live on: MLflow's worker keeps the port, the scheduler's tasks keep running while the
new scheduler starts them again. Whoever carries the service's mark in its environment is such a left-over.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from pipeline.stack.processes import SERVICE_MARK, STACK_MARK, end, marked


def main(services_json: str, name: str) -> None:
    """End the left-overs of service `name` and become it."""
    table = json.loads(Path(services_json).read_text())
    service = table["services"][name]
    left_over = marked(table["home"], service=name)
    if left_over:
        print(f"ending what an earlier {name} left behind: {[process.pid for process in left_over]}", flush=True)
        end(left_over, seconds=5)
    program = service["command"][0]
    environment = os.environ | service["environment"] | {STACK_MARK: table["home"], SERVICE_MARK: name}
    environment["PATH"] = os.pathsep.join([str(Path(program).parent), os.environ.get("PATH", os.defpath)])
    os.execve(program, service["command"], environment)


if __name__ == "__main__":
    main(*sys.argv[1:])
