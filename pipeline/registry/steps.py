"""Where a registration or a promotion may be cut short. Between two of these calls the world outside changes once."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


def passed(step: str) -> None:
    """Nothing happens here but a line for whoever debugs; tests kill the process at each of these places."""
    log.debug("passed: %s", step)
