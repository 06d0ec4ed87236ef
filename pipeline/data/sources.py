"""Reading a source as it is: Parquet, CSV or TSV (also gzipped) from a file, a glob or an fsspec URL, or SQL.

What the columns mean is `canonical.py`'s matter. Text files are read as text only: an item id `0042` stays `0042`.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import fsspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import url_to_fs

from pipeline.data.dataset import Source, nearest
from pipeline.data.schema import REQUIRED, SCHEMAS, TableName
from pipeline.exit_codes import BadConfiguration, DataBrokeContract, PassingFault

if TYPE_CHECKING:
    import sqlalchemy

FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "tsv", ".tab": "tsv"}
SQL_CHUNK = 100_000  # rows fetched at once
STAYS_WRONG = (
    "no such", "syntax error", "unable to open database",  # SQLite
    "authentication failed", "does not exist", "no password supplied",  # PostgreSQL
)  # fmt: skip


def read_source(source: Source, table: TableName, root: Path, as_of: datetime) -> pl.DataFrame:
    """All rows of a source under its own column names; text files give text columns only.

    Raises:
        BadConfiguration: nothing stands there, or a format, table or query is wrong.
        DataBrokeContract: a file is there and cannot be read.
        PassingFault: a server did not answer.
    """
    frames = list(_sql_frames(source, as_of) if source.sql is not None else _file_frames(source, table, root))
    try:
        return pl.concat(frames, how="vertical_relaxed")
    except pl.exceptions.PolarsError as error:
        raise DataBrokeContract(
            f"{table} from {source.place}: its parts do not have the same columns ({_line(error)}); "
            "make them alike or name them as domains of their own."
        ) from error


def source_files(source: Source, root: Path) -> tuple[fsspec.AbstractFileSystem, list[str]]:
    """The files behind `path`, sorted: one, those of a glob, or those of a folder.

    Raises:
        BadConfiguration: there are none.
        PassingFault: the store did not answer.
    """
    place = str(source.path)
    if "://" not in place:
        place = str(root / Path(place).expanduser())
    try:
        store, path = url_to_fs(place)
        if any(sign in path for sign in "*?["):
            files = sorted(file for file in cast("list[str]", store.glob(path)) if store.isfile(file))
        elif store.isdir(path):
            files = sorted(file for file in store.ls(path, detail=False) if _format(source, file) is not None)
        else:
            files = [path] if store.exists(path) else []
    except (ValueError, ImportError) as error:
        raise BadConfiguration(f"{source.place} is no place that can be read: {_line(error)}.") from error
    except OSError as error:
        raise PassingFault(f"{source.place} could not be listed: {_line(error)}.") from error
    if not files:
        beside = ""
        if "://" not in place and Path(place).parent.is_dir():
            beside = nearest(Path(place).name, sorted(file.name for file in Path(place).parent.iterdir())[:20])
        raise BadConfiguration(f"{place} does not exist{beside}.")
    return store, files


def _format(source: Source, file: str) -> str | None:
    return source.format or FORMATS.get(Path(file.removesuffix(".gz")).suffix.lower())


def _file_frames(source: Source, table: TableName, root: Path) -> Iterator[pl.DataFrame]:
    store, files = source_files(source, root)
    local = "file" in (store.protocol if isinstance(store.protocol, tuple) else (store.protocol,))
    for file in files:
        kind = _format(source, file)
        if kind is None:
            raise BadConfiguration(f"{file} has no known ending; give its format: parquet, csv or tsv.")
        try:
            with store.open(file, "rb") as raw:
                yield _read(cast("IO[bytes]", raw), file, kind, source, table)
        except FileNotFoundError as error:
            raise BadConfiguration(f"{file} does not exist.") from error
        except PermissionError as error:
            raise BadConfiguration(f"{file} may not be read by this user; give it read permission.") from error
        except (gzip.BadGzipFile, EOFError, zlib.error, pa.ArrowException, pl.exceptions.PolarsError) as error:
            raise DataBrokeContract(f"{file} cannot be read as {kind}: {_line(error)}.") from error
        except OSError as error:
            # pyarrow reports a damaged file as OSError too; of a local file nothing else is likely
            fault = DataBrokeContract if local else PassingFault
            raise fault(f"{file} cannot be read as {kind}: {_line(error)}.") from error


def _read(raw: IO[bytes], file: str, kind: str, source: Source, table: TableName) -> pl.DataFrame:
    if kind == "parquet":
        parquet = pq.ParquetFile(raw)
        wanted = {source.columns.get(name, name) for name in [*SCHEMAS[table].names, "position", "oracle_rank"]}
        wanted |= set(source.columns.values())
        has = parquet.schema_arrow.names
        needed = {source.columns.get(name, name) for name in REQUIRED[table]} | set(source.columns.values())
        # A warehouse table may have a hundred columns that nobody asked for; where one that is needed is missing, all
        # are read, so that the sentence can say what there is instead.
        names = [name for name in has if name in wanted or name.endswith("_vector")] if needed <= set(has) else None
        frame = pl.from_arrow(parquet.read(columns=names))
        assert isinstance(frame, pl.DataFrame)
        return frame
    content = raw.read()
    if file.endswith(".gz"):
        content = gzip.decompress(content)
    if not content.strip():
        raise DataBrokeContract(f"{file} is empty: not even a header line.")
    return pl.read_csv(content, separator="\t" if kind == "tsv" else ",", infer_schema=False, try_parse_dates=False)


def sql_engine(url: str) -> sqlalchemy.Engine:
    """An engine for a URL in which ${VARIABLES} stand for the environment; postgresql:// means psycopg 3.

    Raises:
        BadConfiguration: the URL or its driver is wrong, or a variable is not set.
    """
    import sqlalchemy

    full = os.path.expandvars(url)
    if "${" in full:
        name = full.split("${", 1)[1].split("}", 1)[0]
        raise BadConfiguration(f"sql: the environment variable {name} is not set.")
    if full.startswith(("postgresql://", "postgres://")):
        full = "postgresql+psycopg://" + full.split("://", 1)[1]
    try:
        return sqlalchemy.create_engine(full)
    except (sqlalchemy.exc.ArgumentError, ImportError) as error:
        raise BadConfiguration(f"sql: the URL is not understood: {_line(error)}.") from error


def _sql_frames(source: Source, as_of: datetime) -> Iterator[pl.DataFrame]:
    for names, rows in _sql_rows(source, source.query, as_of):
        columns = list(zip(*rows, strict=True)) or [()] * len(names)
        yield pl.DataFrame(
            {name: pl.Series(name, list(column), strict=False) for name, column in zip(names, columns, strict=True)}
        )


def _sql_rows(source: Source, query: str | None, as_of: datetime) -> Iterator[tuple[list[str], list[Any]]]:
    import sqlalchemy

    engine = sql_engine(str(source.sql))
    if query is None:
        quote = engine.dialect.identifier_preparer.quote
        query = "SELECT * FROM " + ".".join(quote(part) for part in str(source.table).split("."))
    statement = sqlalchemy.text(query)
    if ":as_of" in query:
        # typed: how a bare datetime reaches SQLite is up to whatever adapter a library registered last (Feast: epoch)
        statement = statement.bindparams(sqlalchemy.bindparam("as_of", as_of, sqlalchemy.DateTime(timezone=True)))
    try:
        with engine.connect().execution_options(stream_results=True) as connection:
            result = connection.execute(statement)
            names, empty = list(result.keys()), True
            for rows in result.partitions(SQL_CHUNK):
                empty = False
                yield names, list(rows)
            if empty:
                yield names, []
    except sqlalchemy.exc.ProgrammingError as error:
        raise BadConfiguration(f"{source.place}: the database refused the query: {_line(error.orig)}.") from error
    except sqlalchemy.exc.OperationalError as error:
        # A server that is away comes back; a wrong name or password stays wrong, and is called operational as well.
        fault = BadConfiguration if any(sign in str(error.orig) for sign in STAYS_WRONG) else PassingFault
        raise fault(f"{source.place}: the database did not answer the query: {_line(error.orig)}.") from error
    except sqlalchemy.exc.DBAPIError as error:
        raise DataBrokeContract(f"{source.place}: the database could not deliver: {_line(error.orig)}.") from error
    finally:
        engine.dispose()


def sql_scalar(source: Source, query: str, as_of: datetime) -> str:
    """The rows of a small query as text (for a version)."""
    return repr([tuple(row) for _, rows in _sql_rows(source, query, as_of) for row in rows])


def _line(error: object) -> str:
    """An exception's message on one line, without its final full stop."""
    return (" ".join(str(error).split()) or type(error).__name__)[:300].rstrip(".")
