"""The service's log: a JSON object a line, with the request it belongs to. Users are pseudonyms there, never ids.

{"at": "2026-01-02T10:00:00.123Z", "level": "info", "event": "request", "request_id": "8c1f…", "status": 200, …}
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson


class JsonLines(logging.Formatter):
    """`log.info("request", extra={"fields": {…}})`: the message is the event, the fields stand beside it."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, Any] = {"at": at, "level": record.levelname.lower(), "event": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.name != "pipeline.serving":
            line["logger"] = record.name
        if record.exc_info:
            line["fault"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def log_json_lines(level: str = "INFO", stream: TextIO | None = None) -> None:
    """Everything this process logs from now on, uvicorn's own lines included."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("httpx", "feast", "urllib3", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
