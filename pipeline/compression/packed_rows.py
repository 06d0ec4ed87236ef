"""Rows of few bits, each on a scale of its own and rounded to the nearest. Numpy only; serving imports this.

* int8: a byte a number, -127 … 127;
* int4: two numbers a byte, -7 … 7 each, raised by 8: the first half of the columns in the low bits, the second in the
  high ones.
"""

from __future__ import annotations

import numpy as np

from pipeline.data.sequences import Array

FLOAT32, INT8, INT4, CODES = "float32", "int8", "int4", "codes"
LARGEST = {INT8: 127, INT4: 7}
RAISED = 8  # what an int4 of 0 is kept as


def packed(vectors: Array, kind: str) -> tuple[Array, Array]:
    """Round.

    Args:
        vectors: float32 [m, D].
        kind: "int8" or "int4".

    Returns:
        rows, int8 [m, D] or uint8 [m, ⌈D / 2⌉], and their scales, float32 [m]; a row of zeros has scale 0.
    """
    scales = (np.abs(vectors).max(axis=1, initial=0.0) / LARGEST[kind]).astype(np.float32)  # (m,)
    steps = np.rint(vectors / np.where(scales > 0, scales, 1.0)[:, None])
    if kind == INT8:
        return steps.astype(np.int8), scales
    raised = (steps + RAISED).astype(np.uint8)
    half = -(-vectors.shape[1] // 2)
    high = np.pad(raised[:, half:], ((0, 0), (0, 2 * half - vectors.shape[1])))
    return raised[:, :half] | (high << 4), scales


def unpacked(rows: Array, scales: Array, kind: str, width: int) -> Array:
    """The way back: float32 [m, width]."""
    if kind == INT4:
        rows = np.concatenate([rows & 15, rows >> 4], axis=1)[:, :width].astype(np.float32) - RAISED
    found: Array = rows.astype(np.float32) * scales[:, None]
    return found
