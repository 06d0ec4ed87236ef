"""Export of a model whose items are codes and nothing else: the catalogue stays in codes, a few bytes an item.

Nothing is rounded that training has not seen, but the pieces to half floats. Items outside of training, whose vectors
are made of what they are, are rows of bytes beside the codes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.compression.fixed_rows import FixedRows
from pipeline.compression.packed_rows import INT8, packed
from pipeline.exit_codes import BadConfiguration
from pipeline.models.item_table import CodedRows
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain


class CodedGraph(FixedRows):
    """A catalogue in product-quantised codes.

    Attributes:
        codes: uint8 [m + 1, P].
        pieces: float16 [P, codes, D / P].
        others: int64 [n], the rows that are no codes.
        rows, scales: int8 [n, D] and float32 [n], what these are.
    """

    codes: Tensor
    pieces: Tensor
    others: Tensor
    rows: Tensor
    scales: Tensor

    def __init__(self, model: SequentialRecommender, domain: Domain, top_k: int, scores_in_integers: bool) -> None:
        """Raises:
        BadConfiguration: the model's items are more than codes.
        """
        super().__init__(model, domain, top_k, scores_in_integers)
        table = model.items.ids
        if not isinstance(table, CodedRows) or not model.spec.id_alone or model.items.up is not None:
            raise BadConfiguration(
                "prune.rows is codes, and this model's items are not codes alone; set distill.table to codes, "
                "distill.id_alone to true and distill.id_width to distill.width, or choose other rows"
            )
        first = model.items.first_row[domain.name]
        others = torch.nonzero(~domain.catalogue.trained).flatten().cpu()  # padding among them
        rows, scales = packed(self.vectors[others].cpu().numpy(), INT8)
        self.register_buffer("codes", table.codes[first : first + len(self.vectors)].cpu().clone())
        self.register_buffer("pieces", table.weight.detach().cpu().half())
        self.register_buffer("others", others)
        self.register_buffer("rows", torch.from_numpy(rows))
        self.register_buffer("scales", torch.from_numpy(scales))
        self.vectors.copy_(self.unpacked(*self.constants.values()))

    @property
    def constants(self) -> dict[str, Tensor]:
        """The catalogue of the export."""
        return {name: getattr(self, name) for name in ("codes", "pieces", "others", "rows", "scales")}

    def unpacked(self, *constants: Tensor) -> Tensor:
        """See `FixedRows.unpacked`."""
        codes, pieces, others, rows, scales = constants
        n_parts, n_codes, _ = self.pieces.shape
        places = codes.long() + torch.arange(n_parts) * n_codes  # (m + 1, P)
        coded = torch.nn.functional.embedding(places, pieces.flatten(0, 1)).float().flatten(1)  # (m + 1, D)
        return coded.scatter(0, others[:, None].expand_as(rows), rows.float() * scales[:, None])
