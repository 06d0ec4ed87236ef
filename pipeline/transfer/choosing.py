"""Which arm is kept: the best on validation rows; the control, where transfer has no gain.

A gain is a higher mean NDCG@10 on the validation users, seen items masked. Its interval is told and not asked for: the
arms cost the same to serve, and what is served is judged again by the gate, on other users.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.data.sequences import Array
from pipeline.evaluation.paired import paired_bootstrap
from pipeline.transfer.params import SCRATCH, ArmName


@dataclass(frozen=True)
class Choice:
    """What was chosen and why.

    Attributes:
        kept: the arm.
        sentence: for people.
        figures: for tracking; `gain_pct` is the best transfer over scratch.
        about: for model.json.
    """

    kept: ArmName
    sentence: str
    figures: dict[str, float]
    about: dict[str, Any]


def choose(found: Mapping[ArmName, Array | None], confidence: float, seed: int) -> Choice:
    """Pick an arm.

    Args:
        found: NDCG@10 of the same validation users by arm, float64 [n]; None where there are none (the first is kept).
        confidence: of the gain's interval.
        seed: of its bootstrap.
    """
    judged = {arm: values for arm, values in found.items() if values is not None and len(values)}
    if not judged:
        first = next(iter(found))
        sentence = f"no validation rows to choose by: {first}, the first of transfer.arms"
        return Choice(first, sentence, {}, {"arm": first, "choice": sentence})
    means = {arm: float(values.mean()) for arm, values in judged.items()}
    transfers: list[ArmName] = [arm for arm in means if arm != SCRATCH]
    best: ArmName = max(transfers or [SCRATCH], key=means.__getitem__)
    about: dict[str, Any] = {"arms": means}
    figures = {f"valid_ndcg10.{arm}": value for arm, value in means.items()} if len(means) > 1 else {}
    n = len(judged[best])
    if SCRATCH not in means or not transfers:
        rivals = ", ".join(f"{arm} {value:.4f}" for arm, value in means.items() if arm != best)
        sentence = f"{best} kept" + (
            f", against {rivals} on {n:,} validation users" if rivals else "; no other was tried"
        )
        return Choice(best, sentence, figures, about | {"arm": best, "choice": sentence})
    gain = paired_bootstrap(judged[best], judged[SCRATCH], confidence, seed)
    if gain.theirs == 0:
        words = f"NDCG@10 {gain.ours:.4f} against {gain.theirs:.4f}"
    else:
        percent = [100 * value / gain.theirs for value in (gain.value, gain.low, gain.high)]
        figures |= dict(zip(("gain_pct", "gain_pct_low", "gain_pct_high"), percent, strict=True))
        words = f"{percent[0]:+.1f} % [{percent[1]:+.1f}, {percent[2]:+.1f}]"
    kept: ArmName = best if gain.value > 0 else SCRATCH
    told = f"{best} against scratch on {n:,} validation users: {words}"
    sentence = f"{told}; {kept} kept" + (": transfer has no gain" if kept == SCRATCH else "")
    return Choice(kept, sentence, figures, about | {"arm": kept, "choice": sentence})
