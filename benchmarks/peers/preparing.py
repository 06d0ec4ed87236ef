"""One shop as each library reads it: ours by our stages, the peers' as the same rows in one file.

python preparing.py SHOPS SHOP FOLDER SETTING …
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipeline.data.adapters import amazon
from pipeline.data.training_set import load_domain
from pipeline.graph import load_graph
from pipeline.runs.contract import Job
from pipeline.runs.parameters import apply_overrides, read_params, stage_params
from pipeline.settings import CHECKOUT
from pipeline.stages import embed, features, snapshot


def prepare(source: Path, shop: str, root: Path, recipe: Sequence[str]) -> None:
    """Write `data/training`, `data/item_vectors`, `split.npz` and `prepared.json` under `root`; begins afresh.

    Args:
        source: folder of the shops.
        recipe: settings of the stages, as `--set` takes them.
    """
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    os.environ["WARMSTART_HOME"] = str(root / "home")  # no text is known yet: encoding is counted whole
    amazon.prepare(source, root / "dataset", [shop], [shop])
    given = (f"data={root / 'dataset'}", f"targets=[{shop}]", "as_of=2026-01-01T00:00:00Z", *recipe)
    params, graph = apply_overrides(read_params(CHECKOUT / "params.yaml"), given), load_graph(CHECKOUT / "dvc.yaml")
    spent = {}
    for module, name, reads, writes in (
        (snapshot, "snapshot", [], ["data/valid"]),  # nothing to put into quarantine
        (features, "features", ["data/valid"], ["data/features", "data/training"]),
        (embed, "embed", ["data/training"], ["data/item_vectors"]),
    ):
        outputs = {path: root / path for path in writes}
        for folder in outputs.values():
            folder.mkdir(parents=True)
        if name == "snapshot":
            outputs = {"data/snapshot": outputs["data/valid"]}
        began = time.process_time()
        inputs = {path: root / path for path in reads}
        module.run(inputs, outputs, stage_params(graph.stages[name], params), Job(root / "scratch" / name))
        spent[name] = time.process_time() - began
    data = load_domain(root / "data" / "training", shop)
    held = {part: data.holdout(part) for part in ("validation", "test")}
    for part in held.values():
        if not np.array_equal(part.user_index, np.arange(data.n_users)):
            raise ValueError(f"{shop} has users without a {part.split} row; the peers cannot leave them out")
    np.savez(
        root / "split.npz",
        offsets=data.offsets,
        items=np.asarray(data.items, dtype=np.int64),
        n_items=data.n_items,
        **{name: part.item_index.astype(np.int64) for name, part in held.items()},
    )
    (root / "prepared.json").write_text(json.dumps({"users": data.n_users, "items": data.n_items, "cpu": spent}))


if __name__ == "__main__":
    prepare(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4:])
