"""What a sweep tries: students by size and item table, exports by what is removed and rounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Overrides = Mapping[str, Sequence[str]]
CODES_ALONE, AS_CODES = "codes alone", "pruned, codes"

STUDENTS: Overrides = {
    "as configured": [],
    "width 16": ["distill.width=16", "distill.id_width=8"],
    "width 64": ["distill.width=64", "distill.id_width=16"],
    "ID rank 4": ["distill.id_width=4"],
    "ID codes": ["distill.table=codes", "distill.id_width=16", "distill.id_parts=8", "distill.id_codes=64"],
    "ID int8": ["distill.table=int8"],
    "content alone": ["distill.table=content"],
    CODES_ALONE: [
        "distill.table=codes",
        "distill.id_alone=true",
        "distill.width=32",
        "distill.id_width=32",
        "distill.id_parts=8",
        "distill.id_codes=64",
    ],
}
DENSE = ["prune.keep_heads=1", "prune.keep_channels=1", "prune.recovery_epochs=0"]
EXPORTS: Overrides = {
    "dense": DENSE,
    "dense, int8": [*DENSE, "prune.rows=int8"],
    "pruned": [],
    "pruned, int8": ["prune.rows=int8"],
    "pruned, int8, linears too": ["prune.rows=int8", "prune.linears=int8"],
    "pruned, int4": ["prune.rows=int4"],
    AS_CODES: ["prune.rows=codes", "prune.scores=int8", "prune.linears=int8_weights"],
}


def fits(student: str, export: str) -> bool:
    """Whether a student can be exported so: rows of codes are those of items that are codes."""
    return export != AS_CODES or student == CODES_ALONE
