"""augment@T: sequences made for thin users and items of a target, fed to its fine-tuning only where they win.

    warmstart stage augment --target harbour

An experiment that must win its place every night: a conditional generator is trained, its sequences are compared with
real ones, and the same fine-tuning is run with and without them and with controls of the same volume and compute. With
`augment.enabled=false` nothing of this happens. Writes `data/synthetic/<target>` and `reports/augmentation/<target>`.
"""

from __future__ import annotations

import json
import logging

from pipeline.augmentation.params import AugmentParams
from pipeline.exit_codes import BadConfiguration
from pipeline.runs.contract import Folders, Job, Summary

log = logging.getLogger(__name__)

ABOUT = "augment.json"


class Params(AugmentParams):
    """Parameters of the generator, of the trial and of the gate: see `AugmentParams`."""


def run(inputs: Folders, outputs: Folders, params: Params, job: Job) -> Summary:
    """Write augment.json and a report, and synthetic.parquet where made sequences are fed in.

    Raises:
        BadConfiguration: a share of made sequences is not above 0, or the backbone belongs to another training set.
    """
    assert job.target is not None
    reports = outputs["reports/augmentation"]
    if not params.enabled:
        off = {"target": job.target, "enabled": False, "feeds": False, "reasons": ["augment.enabled is false"]}
        (reports / ABOUT).write_text(json.dumps(off, indent=1, sort_keys=True) + "\n", "utf-8")
        return Summary("switched off (augment.enabled=false): passes through", {"synthetic_rows": 0})
    if min(params.shares) <= 0:
        raise BadConfiguration(
            f"augment.shares has {min(params.shares):g}; a share is made sequences for one real one and must be above 0"
        )
    from pipeline.augmentation.experiment import Experiment
    from pipeline.augmentation.report import render_report
    from pipeline.augmentation.rows import write_rows
    from pipeline.training.cpu_budget import CpuBudget

    budget = CpuBudget(params.budget_cpu_seconds, job.scratch)
    experiment = Experiment(inputs, params, job, budget)
    rows, about = experiment.run()
    (reports / ABOUT).write_text(json.dumps(about, indent=1, sort_keys=True, allow_nan=False) + "\n", "utf-8")
    (reports / "report.html").write_text(render_report(about), "utf-8")
    log.info("augment@%s: %.1f CPU-seconds of %g", job.target, budget.spent, params.budget_cpu_seconds)
    reasons = "; ".join(about["reasons"])
    if rows is None:
        return Summary(f"passes through: {reasons}", {"synthetic_rows": 0, **about["figures"]})
    write_rows(outputs["data/synthetic"], rows)
    made = len(rows.items)
    share = made / (made + about["real_rows"])
    found = f"feeds {len(rows):,} made sequences ({made:,} rows, {share:.0%} of what trains): {reasons}"
    return Summary(found, {"synthetic_rows": made, "synthetic_share": share, **about["figures"]})
