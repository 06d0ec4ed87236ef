"""The databases the pipeline needs in PostgreSQL, ours or somebody else's, and whether they can be reached."""

from __future__ import annotations

from urllib.parse import urlsplit

from pipeline.exit_codes import BadConfiguration, PassingFault
from pipeline.settings import DATABASES, Settings

CONNECT_SECONDS = 5


def needed_databases(settings: Settings) -> list[str]:
    """`DATABASES` without those of servers that are not ours."""
    foreign = {
        "airflow": settings.airflow_api_url is not None,
        "mlflow": settings.mlflow_tracking_uri is not None,
    }
    return [name for name in DATABASES if not foreign.get(name)]


def maintenance_url(settings: Settings) -> str:
    """URL of a database that exists before ours do: the one named in WARMSTART_DATABASE_URL, else `postgres`."""
    named = urlsplit(settings.database_url or "").path.strip("/")
    return settings.postgres_url(named or "postgres")


def database_problem(settings: Settings) -> str | None:
    """Why PostgreSQL cannot be used now, in its own words, or None when it answers."""
    import psycopg

    try:
        with psycopg.connect(maintenance_url(settings), connect_timeout=CONNECT_SECONDS) as connection:
            connection.execute("select 1")
    except psycopg.Error as error:
        return " ".join(str(error).split()) or type(error).__name__
    return None


def database_clock(settings: Settings) -> float:
    """What PostgreSQL takes for now, in seconds since the epoch."""
    import psycopg

    with psycopg.connect(maintenance_url(settings), connect_timeout=CONNECT_SECONDS) as connection:
        row = connection.execute("select extract(epoch from clock_timestamp())::float8").fetchone()
    assert row is not None
    return float(row[0])


def missing_databases(settings: Settings) -> list[str]:
    """Which of the needed databases are not there.

    Raises:
        PassingFault: PostgreSQL does not answer.
    """
    import psycopg

    try:
        with psycopg.connect(maintenance_url(settings), connect_timeout=CONNECT_SECONDS) as connection:
            present = {name for (name,) in connection.execute("select datname from pg_database")}
    except psycopg.OperationalError as error:
        raise PassingFault(f"PostgreSQL at {database_place(settings)} does not answer: {error}") from error
    return [name for name in needed_databases(settings) if name not in present]


def create_databases(settings: Settings) -> list[str]:
    """Create the databases that are missing; returns their names.

    Raises:
        BadConfiguration: the user of WARMSTART_DATABASE_URL may not create databases.
        PassingFault: PostgreSQL does not answer.
    """
    import psycopg

    missing = missing_databases(settings)
    if not missing:
        return []
    with psycopg.connect(maintenance_url(settings), autocommit=True) as connection:
        for name in missing:
            try:
                connection.execute(f"create database \"{name}\" template template0 encoding 'UTF8'")  # type: ignore[arg-type]
            except psycopg.errors.DuplicateDatabase:
                continue  # another `up` was faster
            except psycopg.errors.InsufficientPrivilege as error:
                raise BadConfiguration(
                    f"The databases {', '.join(missing)} are missing at {database_place(settings)} and its user may "
                    "not create them: create them there, or grant that user CREATEDB."
                ) from error
    return missing


def database_place(settings: Settings) -> str:
    """Where PostgreSQL is, for people: never with the password."""
    if settings.database_url is None:
        return str(settings.postgres_socket_dir)
    parts = urlsplit(settings.database_url)
    return f"{parts.hostname or parts.query or 'localhost'}{f':{parts.port}' if parts.port else ''}"
