"""Content vectors of the items: frozen language-model vectors of their text, and the vectors users bring.

    python -m pipeline stage embed

Only texts never seen before are encoded; the others come from a table under `$WARMSTART_HOME/stores`, keyed by
content. The whitening is fitted on all domains together, so that a source's items and a target's are comparable.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import Field

from pipeline.data.schema import read_table
from pipeline.data.sequences import Array
from pipeline.data.training_set import load_dataset
from pipeline.features.encoders import encoder_named
from pipeline.features.item_vectors import (
    TEXT,
    brought,
    brought_widths,
    distinct_texts,
    gathered,
    text_rows,
)
from pipeline.features.vector_store import VectorStore
from pipeline.features.whitening import fit_whitening, write_whitening
from pipeline.runs.contract import Folders, Job, StageParams, Summary
from pipeline.settings import settings

log = logging.getLogger(__name__)


class Params(StageParams):
    """Parameters of `embed`."""

    encoder: Literal["minilm", "hashing"] = Field("minilm", description="minilm: a language model; hashing: n-grams")
    width: int = Field(128, ge=1, le=384, description="of the text vectors after whitening")


def run(inputs: Folders, outputs: Folders, params: Params, job: Job) -> Summary:
    """Write `<domain>/<modality>.npy`, `vectors.json` and `whitening.safetensors`.

    Raises:
        BadConfiguration: the language model is not installed.
        DataBrokeContract: vectors the user brings do not fit together.
    """
    training, out = inputs["data/training"], outputs["data/item_vectors"]
    domains = list(load_dataset(training)["domains"])
    paths = {domain: training / domain / "items.parquet" for domain in domains}
    items = {domain: read_table(path) for domain, path in paths.items()}
    widths = brought_widths(items)

    encoder = encoder_named(params.encoder, job.threads)
    texts = distinct_texts(items)
    store = VectorStore(settings().home / "stores" / "item_vectors.sqlite")
    vectors, encoded = store.vectors_of(texts, encoder)
    log.info("%s texts, %s of them new", f"{len(texts):,}", f"{encoded:,}")
    # every item counts, not every text: what is common in the catalogue is common in the whitening
    rows = {domain: text_rows(frame, texts) for domain, frame in items.items()}
    used = np.concatenate(list(rows.values()))
    whitening = fit_whitening(vectors[used[used >= 0]], params.width)
    whitened = whitening(vectors)

    for domain, frame in items.items():
        folder = out / domain
        folder.mkdir(parents=True)
        np.save(folder / f"{TEXT}.npy", gathered(whitened, rows[domain]), allow_pickle=False)
        for name, width in widths.items():
            np.save(folder / f"{name}.npy", brought(frame, name, width), allow_pickle=False)
    write_whitening(out, whitening)
    about = {"encoder": encoder.identity, "modalities": {TEXT: params.width, **widths}}
    (out / "vectors.json").write_text(json.dumps(about, indent=2, sort_keys=True) + "\n", "utf-8")
    return _summary(rows, widths, params)


def _summary(rows: Mapping[str, Array], widths: Mapping[str, int], params: Params) -> Summary:
    """Not how many were new: that depends on the store, and a summary is part of the stage's output."""
    n_items = sum(len(domain) for domain in rows.values())
    without = sum(int((domain < 0).sum()) for domain in rows.values())
    others = "".join(f", {name} ({width} wide)" for name, width in widths.items())
    return Summary(
        found=f"{n_items:,} items, {without:,} without text; {params.encoder} {params.width} wide{others}",
        metrics={"items": float(n_items), "without_text": float(without)},
    )
