"""Which parts of a backbone move in fine-tuning, when, and how fast: a factor on the learning rate of every part.

Parts are ordered by depth from the top: the target's own tables (depth 0), the last norm, the Transformer's blocks
from the last to the first, and the embeddings that all domains share.

* `whole`: everything at one rate;
* `discriminative`: a part of depth d at `decay ** d` (ULMFiT, arXiv 1801.06146, §3.2);
* `head`: the target's own tables and the last norm, nothing else;
* `gradual`: from the top down, one depth more at a time, everything by half of the steps (ULMFiT, §3.3);
* `adapters`: as `head`, and low-rank updates of the Transformer's matrices (pipeline/transfer/adapters.py);
* `anil`: as `whole`, and a state of each user's own, adapted in closed form (pipeline/models/user_state.py).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.models.members import in_one_trunk
from pipeline.transfer.params import Strategy

OWN = ("items.ids.", "profile.domains.")
TOP = ("trunk.last_norm.", "trunk.recency.", "trunk.user.", "trunk.decision.")
BLOCK = re.compile(r"trunk\.blocks\.(\d+)\.")
UNFROZEN_BY = 0.5  # of all steps: from there on `gradual` trains everything


@dataclass(frozen=True)
class PartRates:
    """The factors of one strategy for a model of `layers` blocks; see `pipeline.training.loop.Rates`.

    Attributes:
        decay: of `discriminative`, 0 to 1.
    """

    strategy: Strategy
    layers: int
    decay: float

    @property
    def deepest(self) -> int:
        """The depth of the shared embeddings."""
        return self.layers + 2

    def part(self, parameter: str) -> int:
        """The depth of a parameter by its name."""
        parameter = in_one_trunk(parameter)
        if parameter.startswith(OWN):
            return 0
        if parameter.startswith(TOP):
            return 1
        if found := BLOCK.match(parameter):
            return 1 + self.layers - int(found.group(1))
        return self.deepest

    def factor(self, part: int, progress: float) -> float:
        """What the learning rate of a part is multiplied with when `progress`, 0 to 1, of the steps are taken."""
        if self.strategy == "discriminative":
            return self.decay**part
        if self.strategy == "head":
            return float(part <= 1)
        if self.strategy == "gradual":
            return float(progress >= UNFROZEN_BY * part / self.deepest)
        return 1.0  # `adapters` freezes what must not move by itself
