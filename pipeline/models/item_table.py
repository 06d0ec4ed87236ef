"""The ID vectors of items, which are most of a model: several ways to keep a table.

* factors: rows of `id_width` floats; narrower than the model, an up-projection follows (a low-rank table);
* codes: `id_parts` bytes a row, each chooses a piece of the vector out of `id_codes` shared ones (RecJPQ, arXiv
  2312.06165);
* int8: the rows of `factors`, rounded to a byte a number after training, each on a scale of its own, and fixed;
* content: no rows; what an item is says all.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.spec import ModelSpec

FACTORS, CODES, INT8, CONTENT = "factors", "codes", "int8", "content"
TABLES = (FACTORS, CODES, INT8, CONTENT)
MOST_CODES = 256  # a code is a byte


class CodedRows(nn.Module):
    """Rows put together from shared pieces; the codes are given, the pieces are learned.

    Attributes:
        codes: uint8 [rows, parts].
        weight: float32 [parts, codes, width / parts].
    """

    codes: Tensor

    def __init__(self, rows: int, width: int, parts: int, codes: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(rows, parts, dtype=torch.uint8))
        self.weight = nn.Parameter(torch.zeros(parts, codes, width // parts))

    def forward(self, rows: Tensor) -> Tensor:
        """int64 [m] -> float32 [m, width]."""
        parts, codes, _ = self.weight.shape
        first = torch.arange(parts, device=rows.device) * codes
        pieces = functional.embedding(self.codes[rows].long() + first, self.weight.flatten(0, 1))  # (m, parts, piece)
        return pieces.flatten(1)


class Int8Rows(nn.Module):
    """Rows of bytes; nothing here is trained.

    Attributes:
        weight: int8 [rows, width].
        scale: float32 [rows].
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(rows, width, dtype=torch.int8))
        self.register_buffer("scale", torch.zeros(rows))

    def forward(self, rows: Tensor) -> Tensor:
        """int64 [m] -> float32 [m, width]."""
        return self.weight[rows].float() * self.scale[rows, None]


def id_table(spec: ModelSpec, rows: int) -> nn.Module | None:
    """The table of a model's shape, before its weights are drawn; None where items are content alone.

    Raises:
        ValueError: the table is unknown, or its parts do not divide its width.
    """
    if spec.table == CONTENT:
        return None
    if spec.table == FACTORS:
        return nn.Embedding(rows, spec.id_width)
    if spec.table == INT8:
        return Int8Rows(rows, spec.id_width)
    if spec.table == CODES:
        if spec.id_width % spec.id_parts:
            raise ValueError(f"{spec.id_parts} parts do not divide an ID vector of {spec.id_width}")
        return CodedRows(rows, spec.id_width, spec.id_parts, spec.id_codes)
    raise ValueError(f"a table of items is one of {', '.join(TABLES)}, not {spec.table!r}")


def table_bytes(table: str, rows: int, spec: ModelSpec) -> int:
    """What the ID vectors of that many rows take on the disk, kept that way with the widths of `spec`."""
    up = 4 * spec.id_width * spec.width if spec.id_width < spec.width else 0
    return {
        CONTENT: 0,
        FACTORS: 4 * rows * spec.id_width + up,
        INT8: rows * (spec.id_width + 4) + up,
        CODES: rows * spec.id_parts + 4 * spec.id_codes * spec.id_width + up,
    }[table]
