"""Where the online store is: from the settings to Feast's own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.features.online_store import online_store_config, store_name
from pipeline.settings import Settings


def test_the_embedded_server_is_reached_through_its_socket():
    config = online_store_config(Settings(home=Path("/home/of/it"), database_url=None, online_store_url=None))
    assert config["type"] == "postgres" and config["database"] == "feast"
    assert config["host"].startswith("/") and config["user"] == "postgres"


def test_a_server_of_ones_own_keeps_its_password_and_its_encryption():
    url = "postgresql://reader:p%40ss@db.example:5433/postgres?sslmode=require"
    config = online_store_config(Settings(database_url=url, online_store_url=None))
    expected = {"host": "db.example", "port": 5433, "user": "reader", "password": "p@ss", "sslmode": "require"}
    assert expected.items() <= config.items() and config["database"] == "feast"


@pytest.mark.parametrize(
    ("url", "connection", "name"),
    [
        ("redis://cache:6380/2", "cache:6380,db=2", "redis cache:6380/2"),
        ("rediss://u:secret@cache", "cache:6379,username=u,password=secret,ssl=true", "redis cache:6379"),
    ],
)
def test_redis_in_place_of_postgres(url: str, connection: str, name: str):
    settings = Settings(online_store_url=url)
    config = online_store_config(settings)
    assert config == {"type": "redis", "connection_string": connection, "skip_dedup": True}
    assert store_name(settings) == name and "secret" not in store_name(settings)
