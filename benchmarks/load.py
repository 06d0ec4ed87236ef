"""Load on an HTTP server by wrk, Debian's package of that name: C and epoll, it takes little of the cores it shares."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("load.lua")
TIMEOUT = "10s"  # an answer that takes longer is an error


@dataclass(frozen=True)
class Measured:
    """What wrk saw.

    Attributes:
        requests: answered.
        seconds: in which they were.
        p50_ms, p99_ms, max_ms: from the request's last byte to the answer's.
        late: requests of a steady stream that left over 1 ms after their moment, since no connection was free.
        wrong: answers without the text that was expected.
        errors: connections, reads and writes that broke, status 400 and above, answers that took too long.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    late: int
    wrong: int
    errors: int

    @property
    def rps(self) -> float:
        """Good answers a second."""
        return max(self.requests - self.errors - self.wrong, 0) / self.seconds


class Load:
    """Requests to one address until `end`, or for as long as `run` says."""

    def __init__(
        self,
        url: str,
        bodies: Path,
        connections: int,
        rate: float = 0,
        expected: str = "",
        key: str = "",
        seconds: int = 3600,
    ) -> None:
        """Args:
        bodies: file, a JSON body a line, sent in random order.
        rate: a second, in a Poisson stream; 0 is as many as come back.
        expected: text that every answer must hold.
        key: API key.

        Raises:
            SystemExit: there is no wrk.
        """
        wrk = shutil.which("wrk")
        if wrk is None:
            raise SystemExit("this benchmark needs wrk, and there is none on the PATH: apt-get install wrk")
        headers = ["-H", f"X-API-Key: {key}"] if key else []
        command = [
            wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", TIMEOUT, "-s", str(SCRIPT), *headers, url,
            "--", str(bodies), str(rate), expected,
        ]  # fmt: skip
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def end(self) -> Measured:
        """Stop asking."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        return self.measured()

    def measured(self) -> Measured:
        """Wait for the end.

        Raises:
            SystemExit: wrk has broken; with its words.
        """
        said, _ = self._process.communicate()
        _, found, figures = said.partition("FIGURES ")
        if not found:
            raise SystemExit(f"wrk has measured nothing:\n{said}")
        return Measured(**json.loads(figures))
