"""Tests of the registry share one PostgreSQL and one MLflow server."""

from tests.registry_fixture import registry  # noqa: F401
