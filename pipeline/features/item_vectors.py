"""The content vectors of every item of every domain: its text, and whatever vectors the user brings."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from pipeline.data.schema import VECTOR_SUFFIX, vector_columns
from pipeline.data.sequences import Array
from pipeline.exit_codes import DataBrokeContract

TEXT = "text"


def distinct_texts(items: Mapping[str, pl.DataFrame]) -> list[str]:
    """The texts of all items, each once, sorted; a text of nothing but white space is none."""
    texts = pl.concat([frame["text"] for frame in items.values()]).drop_nulls()
    return texts.filter(texts.str.strip_chars().str.len_bytes() > 0).unique().sort().to_list()


def text_rows(items: pl.DataFrame, texts: list[str]) -> Array:
    """For each item of a domain the row of its text in `texts`, int64 [n_items]; -1 where it has none."""
    row_of = {text: row for row, text in enumerate(texts)}
    return np.array([row_of.get(text, -1) for text in items["text"].to_list()], dtype=np.int64)


def gathered(vectors: Array, rows: Array) -> Array:
    """float32 [n_items + 1, width]: row i + 1 is `vectors[rows[i]]`, zeros for padding and for -1."""
    matrix = np.zeros((len(rows) + 1, vectors.shape[1]), dtype=np.float32)
    has = np.flatnonzero(rows >= 0)
    matrix[has + 1] = vectors[rows[has]]
    return matrix


def brought_widths(items: Mapping[str, pl.DataFrame]) -> dict[str, int]:
    """Width of every modality the user brings (`<name>_vector` columns), by name, sorted.

    Raises:
        DataBrokeContract: a modality is named as the text's own, or its width differs between domains.
    """
    widths: dict[str, int] = {}
    first_in: dict[str, str] = {}
    for domain, frame in items.items():
        for column in vector_columns(frame.columns):
            name = column.removesuffix(VECTOR_SUFFIX)
            if name == TEXT:
                raise DataBrokeContract(
                    f"{domain}/items has a column {column!r}, the name of the vectors `embed` makes of the text;"
                    " call it something else, e.g. 'title_vector'"
                )
            found = frame[column].drop_nulls().list.len().unique().to_list()
            if not found:
                continue
            width = widths.setdefault(name, found[0])
            if found != [width]:
                raise DataBrokeContract(
                    f"{domain}/items: {column} is {found[0]} wide and {width} wide in {first_in[name]};"
                    " one modality needs one width in all domains"
                )
            first_in.setdefault(name, domain)
    return dict(sorted(widths.items()))


def brought(items: pl.DataFrame, name: str, width: int) -> Array:
    """The user's vectors of one modality, float32 [n_items + 1, width]; zeros where an item has none."""
    matrix = np.zeros((items.height + 1, width), dtype=np.float32)
    column = name + VECTOR_SUFFIX
    if column not in items.columns:
        return matrix
    has = np.flatnonzero(items[column].is_not_null().to_numpy())
    if len(has):
        flat = items[column].drop_nulls().list.explode(keep_nulls=False, empty_as_null=False)
        matrix[has + 1] = flat.to_numpy().reshape(len(has), width)
    return matrix
