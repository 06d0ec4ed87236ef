"""From a source's own columns to the canonical ones: renamed, typed, nothing dropped.

Rows that are wrong stay (the contracts judge them); columns that are missing or cannot be read as what they should be
end the run, because then every row is wrong.
"""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from pipeline.data.dataset import Source, nearest
from pipeline.data.schema import DEFAULT_EVENT, REQUIRED, SCHEMAS, TableName, vector_columns
from pipeline.exit_codes import BadConfiguration, DataBrokeContract

MOMENT = pl.Datetime("us", "UTC")
MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
ISO_FORMATS = ("%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f")
# Data without a clock gets one: its n-th position is n seconds after this moment.
ORDER_START = datetime(2000, 1, 1, tzinfo=UTC)


def canonicalise(frame: pl.DataFrame, table: TableName, source: Source, clock: str, where: str) -> pl.DataFrame:
    """The canonical columns of a table, plus `oracle_rank` and `<name>_vector` where the source has them.

    Args:
        frame: as `read_source` gave it.
        clock: "order" makes timestamps from `position`, or from the place in the file where there is none.
        where: how to name the table in a sentence, e.g. "metro/interactions (events.csv)".

    Raises:
        BadConfiguration: `columns:` names a column the source does not have, or numbers need a `timestamp_unit:`.
        DataBrokeContract: a required column is missing, or a column has a wrong type.
    """
    column = _Columns(frame, source, where)
    found: dict[str, pl.Series] = {}
    for name in SCHEMAS[table].names:
        required = name in REQUIRED[table] and not (name == "timestamp" and clock == "order")
        raw = column.get(name, required)
        if name == "timestamp" and clock == "order":
            found[name] = _from_order(column, len(frame))
        elif raw is None:
            found[name] = _absent(table, name, len(frame), source)
        elif name in ("timestamp", "created_at", "available_from"):
            found[name] = _moment(raw, name, source, where)
        elif name == "attributes":
            found[name] = _attributes(raw, source, where)
        elif name == "value":
            found[name] = _number(raw, name, where, pl.Float32)
        else:
            found[name] = _text(raw, name, where)
    if table == "interactions":
        found["created_at"] = _since_known(found["created_at"], found["timestamp"])
        rank = column.get("oracle_rank", required=False)
        if rank is not None:
            found["oracle_rank"] = _number(rank, "oracle_rank", where, pl.Int32)
    if table == "items":
        for name in sorted({*vector_columns(frame.columns), *vector_columns(list(source.columns))}):
            raw = column.get(name, required=True)
            assert raw is not None
            found[name] = _vector(raw, name, where)
    return pl.DataFrame([series.alias(name) for name, series in found.items()])


class _Columns:
    """The source's columns by canonical name."""

    def __init__(self, frame: pl.DataFrame, source: Source, where: str) -> None:
        self.frame, self.renamed, self.where = frame, source.columns, where

    def get(self, name: str, required: bool) -> pl.Series | None:
        own = self.renamed.get(name, name)
        if own in self.frame.columns:
            return self.frame[own]
        have = self.frame.columns
        if name in self.renamed:
            raise BadConfiguration(f"{self.where}: columns: {name}: there is no column {own!r}{nearest(own, have)}.")
        if required:
            raise DataBrokeContract(
                f"{self.where} broke the rule column_present: it has no column {name!r}, only {', '.join(have)}; "
                f"if one of them means it, say so under columns: {{{name}: …}}."
            )
        return None


def _wrong(where: str, name: str, expected: str, found: str) -> DataBrokeContract:
    return DataBrokeContract(f"{where} broke the rule column_type: {name} should be {expected}, found {found}.")


def _absent(table: TableName, name: str, rows: int, source: Source) -> pl.Series:
    if name == "attributes":
        return (
            pl.Series([[]], dtype=pl.List(pl.String)).new_from_index(0, rows)
            if rows
            else pl.Series([], dtype=pl.List(pl.String))
        )
    if name == "event":
        return pl.repeat(source.event or DEFAULT_EVENT, rows, dtype=pl.String, eager=True)
    kinds = {"value": pl.Float32(), "created_at": MOMENT, "available_from": MOMENT, "timestamp": MOMENT}
    return pl.repeat(None, rows, dtype=kinds.get(name, pl.String()), eager=True)


def _since_known(created: pl.Series, timestamp: pl.Series) -> pl.Series:
    """A row whose source does not say when it became known was known when it happened."""
    return pl.select(pl.coalesce(created, timestamp)).to_series()


def _from_order(column: _Columns, rows: int) -> pl.Series:
    position = column.get("position", required=False)
    if position is None:
        seconds = pl.int_range(rows, eager=True)
    else:
        seconds = _number(position, "position", column.where, pl.Int64)
    start = int(ORDER_START.timestamp())
    return ((seconds + start) * MICROSECONDS["s"]).cast(MOMENT)


def _text(raw: pl.Series, name: str, where: str) -> pl.Series:
    if raw.dtype.is_float():  # what a dataframe makes of integer ids when one is missing
        whole = raw.drop_nulls().drop_nans()
        if not (whole == whole.floor()).all():
            raise _wrong(where, name, "text or whole numbers", f"{raw.dtype} such as {whole[0]}")
        raw = raw.fill_nan(None).cast(pl.Int64)
    if raw.dtype.is_nested() or raw.dtype == pl.Binary:
        raise _wrong(where, name, "text", str(raw.dtype))
    return raw.cast(pl.String)


def _number(raw: pl.Series, name: str, where: str, dtype: type[pl.DataType]) -> pl.Series:
    if raw.dtype == pl.Null:
        return raw.cast(dtype)
    if raw.dtype == pl.String:
        raw = raw.str.strip_chars()
        raw = raw.set(raw == "", None)
    elif not (raw.dtype.is_numeric() or raw.dtype == pl.Boolean):
        raise _wrong(where, name, "a number", str(raw.dtype))
    cast = raw.cast(pl.Float64, strict=False) if dtype == pl.Float32 else raw
    cast = cast.cast(dtype, strict=False)
    _refuse_unreadable(raw, cast, name, "a number", where)
    return cast


def _refuse_unreadable(raw: pl.Series, cast: pl.Series, name: str, expected: str, where: str) -> None:
    lost = raw.filter(cast.is_null() & raw.is_not_null())
    if len(lost):
        raise _wrong(where, name, expected, f"{len(lost):,} of {len(raw):,} rows that are not, e.g. {lost[0]!r}")


def _moment(raw: pl.Series, name: str, source: Source, where: str) -> pl.Series:
    if raw.dtype == pl.Null:
        return raw.cast(MOMENT)
    if raw.dtype == pl.Date:
        return raw.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if isinstance(raw.dtype, pl.Datetime):
        zoned = raw.dt.replace_time_zone("UTC") if raw.dtype.time_zone is None else raw.dt.convert_time_zone("UTC")
        return zoned.cast(MOMENT)
    unit = source.timestamp_unit
    if raw.dtype.is_numeric() or unit in MICROSECONDS:
        if unit not in MICROSECONDS:
            raise BadConfiguration(
                f"{where}: {name} holds numbers such as {raw.drop_nulls().first()!s}; say what they count with "
                "timestamp_unit: s, ms or us."
            )
        if raw.dtype.is_integer():
            return (raw.cast(pl.Int64) * MICROSECONDS[unit]).cast(MOMENT)
        seconds = _number(raw, name, where, pl.Float64)
        return (seconds * MICROSECONDS[unit]).round().cast(pl.Int64, strict=False).cast(MOMENT)
    if raw.dtype != pl.String:
        raise _wrong(where, name, "a timestamp", str(raw.dtype))
    return _iso(raw, name, where)


def _iso(raw: pl.Series, name: str, where: str) -> pl.Series:
    """ISO 8601 with or without a zone; without one it is UTC."""
    text = raw.str.strip_chars().str.replace(r"Z$", "+00:00")
    text = text.set(text == "", None)
    full = pl.select(pl.when(text.str.len_chars() == 10).then(text + "T00:00:00").otherwise(text)).to_series()
    zoned = [full.str.to_datetime(form, time_unit="us", strict=False) for form in ISO_FORMATS]
    known = [s if s.dtype == MOMENT else s.dt.replace_time_zone("UTC") for s in zoned]
    parsed = pl.select(pl.coalesce(known)).to_series()
    _refuse_unreadable(text, parsed, name, "a timestamp (ISO 8601; numbers need timestamp_unit:)", where)
    return parsed


def _attributes(raw: pl.Series, source: Source, where: str) -> pl.Series:
    if raw.dtype == pl.String:
        lists = raw.str.split(source.attribute_separator)
    elif (isinstance(raw.dtype, pl.List) and not raw.dtype.inner.is_nested()) or raw.dtype == pl.Null:  # type: ignore[union-attr]
        lists = raw.cast(pl.List(pl.String))
    else:
        raise _wrong(where, "attributes", "a list of texts or one text", str(raw.dtype))
    clean = lists.list.eval(pl.element().str.strip_chars()).list.eval(pl.element().filter(pl.element() != ""))
    return pl.select(pl.when(clean.is_null()).then(pl.lit([], dtype=pl.List(pl.String))).otherwise(clean)).to_series()


def _vector(raw: pl.Series, name: str, where: str) -> pl.Series:
    numbers = pl.List(pl.Float32)
    if raw.dtype == pl.String:  # a text file writes a vector as [0.1, 0.2]
        try:
            return raw.str.json_decode(numbers)
        except pl.exceptions.PolarsError as error:
            raise _wrong(where, name, "a list of numbers", f"text such as {raw.drop_nulls().first()!r}") from error
    if isinstance(raw.dtype, pl.Array):
        raw = raw.arr.to_list()
    if raw.dtype == pl.Null:
        return raw.cast(numbers)
    if not (isinstance(raw.dtype, pl.List) and raw.dtype.inner.is_numeric()):  # type: ignore[union-attr]
        raise _wrong(where, name, "a list of numbers", str(raw.dtype))
    return raw.cast(numbers)
