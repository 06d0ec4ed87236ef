"""What every test here needs: a Docker engine, and in it the image that `make images` builds."""

from __future__ import annotations

import os
from typing import Any, NoReturn

import pytest

from pipeline.containers.engine import connect, inspect_image
from pipeline.exit_codes import StageError


def engine_with_image() -> Any:
    """A client of the engine. Without one the test is skipped, or fails where `REQUIRE_ENGINE` is set."""
    try:
        found = connect()
        inspect_image(found, os.environ.get("WARMSTART_IMAGE_STAGE") or "warmstart-stage:cpu")
    except StageError as fault:
        left_out(str(fault))
    return found


def left_out(reason: str) -> NoReturn:
    """Skip the test for this reason, or fail it where `REQUIRE_ENGINE` is set."""
    if os.environ.get("REQUIRE_ENGINE"):
        pytest.fail(reason)
    pytest.skip(reason)
