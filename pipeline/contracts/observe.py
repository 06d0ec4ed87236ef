"""What the rules look at beside a table's own columns: small numbers, computed once for all rows.

| column | table | meaning |
|---|---|---|
| `user_id_length`, `item_id_length` | with the id | characters without surrounding white space; null where missing |
| `value_is_finite` | interactions | a null value is fine, NaN and infinity are not (dataframes confuse the two) |
| `repetition` | interactions | how many rows with the same user, item, moment, event and value were known before |
| `item_is_known` | interactions | the items table has it; null where that cannot be said |
| `vector_faults` | items | numbers that are none, over all vector columns |
| `vector_width_faults` | items | vector columns in which this item's width is not the usual one |
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from pipeline.data.schema import TableName, schema_of, vector_columns

SAME = ["user_id", "item_id", "timestamp", "event", "value"]


def observe(frame: pl.DataFrame, table: TableName, known_items: pl.Series | None) -> pl.DataFrame:
    """The frame that the rules of levels row and table are run on: scalar columns and observations, same row order."""
    seen = {f"{name}_length": _length(name) for name in ("user_id", "item_id") if name in frame.columns}
    if table == "interactions":
        seen["value_is_finite"] = pl.col("value").is_null() | pl.col("value").is_finite()
        unsaid = pl.lit(None, pl.Boolean)
        seen["item_is_known"] = (
            unsaid if known_items is None else pl.col("item_id").is_in(known_items.drop_nulls().unique().implode())
        )
    if table == "items":
        seen["vector_faults"] = _sum(
            [
                pl.col(n).list.eval(~pl.element().is_finite().fill_null(False)).list.sum()
                for n in vector_columns(frame.columns)
            ]
        )
        seen["vector_width_faults"] = _sum(
            [pl.col(n).list.len() != _usual_width(frame[n]) for n in vector_columns(frame.columns)]
        )
    observed = frame.with_columns(**seen)
    if table == "interactions":
        observed = observed.with_columns(_repetition(frame))
    scalar = observed.select(name for name, kind in observed.schema.items() if not kind.is_nested())
    # Great Expectations copies columns many times, and millions of text objects are not small.
    return scalar.with_columns(pl.col(pl.String).cast(pl.Categorical))


def layout(schema: pa.Schema, table: TableName) -> pl.DataFrame:
    """A row per canonical column: `column`, `found` (its type, null where it is missing) and `wanted`."""
    wanted = schema_of(table, schema.names)
    found = [_type_name(schema.field(field.name).type) if field.name in schema.names else None for field in wanted]
    return pl.DataFrame(
        {"column": wanted.names, "found": found, "wanted": [_type_name(field.type) for field in wanted]},
        schema=dict.fromkeys(("column", "found", "wanted"), pl.String),
    )


def _type_name(kind: pa.DataType) -> str:
    # large_string and string differ in how they are stored, not in what they are
    return str(kind).replace("large_", "").replace("string_view", "string").replace("element:", "item:")


def _length(column: str) -> pl.Expr:
    return pl.col(column).str.strip_chars().str.len_chars().cast(pl.Int64)


def _repetition(frame: pl.DataFrame) -> pl.Series:
    """0 for the first known of equal rows, 1, 2, … for the others."""
    # A row whose clocks contradict each other must not push out the sound one.
    sound = pl.when(pl.col("created_at") >= pl.col("timestamp")).then("created_at")
    known = frame.select(*SAME, sound).with_row_index("row")
    by_time = known.sort("created_at", nulls_last=True, maintain_order=True)
    # Rows without user, item or moment are never equal: nobody knows whether they are.
    whole = pl.all_horizontal(pl.col("user_id", "item_id", "timestamp").is_not_null())
    counted = by_time.select("row", repetition=pl.when(whole).then(pl.int_range(pl.len()).over(SAME)).otherwise(0))
    return counted.sort("row")["repetition"].cast(pl.Int64)


def _usual_width(vectors: pl.Series) -> int:
    widths = vectors.drop_nulls().list.len()
    return (
        int(widths.value_counts(sort=True).sort("count", widths.name, descending=True)[widths.name][0])
        if len(widths)
        else 0
    )


def _sum(faults: list[pl.Expr]) -> pl.Expr:
    return pl.sum_horizontal([fault.fill_null(0).cast(pl.Int64) for fault in faults]) if faults else pl.lit(0, pl.Int64)
