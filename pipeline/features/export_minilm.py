"""The sentence encoder as an ONNX graph, made once by a process of its own: what serves must not load torch.

    python -m pipeline.features.export_minilm $WARMSTART_HOME/cache/encoders/minilm-0.1.0.onnx

    in   input_ids            int64   [n, T]    wordpieces, 0 = padding
         attention_mask       int64   [n, T]    1 where there is a wordpiece
    out  sentence_embedding   float32 [n, 384]  of length 1

The file appears at its path only after its vectors were found to be torch's.
"""

from __future__ import annotations

import io
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

OPSET = 18
CLOSE = 1e-4  # of a vector of length 1, absolute
INPUTS, OUTPUT = ("input_ids", "attention_mask"), "sentence_embedding"
TEXTS = (
    "a red cup",
    "Gießkanne aus Zink, 5 l — für Balkon & Garten",
    "чёрный чай с бергамотом",
    "青いカップ 300ml 🙂",
    "",
    "word " * 400,  # longer than the encoder reads
)


def export_minilm(path: Path) -> None:
    """Write the graph of the installed sentence encoder to `path`, atomically.

    Raises:
        BadConfiguration: the encoder's package is not installed.
        OSError: the folder cannot be made, or written to.
        RuntimeError: ONNX Runtime does not give torch's vectors.
    """
    path.parent.mkdir(parents=True, exist_ok=True)  # where nothing can be written, nothing is computed first

    import torch

    graph, ids = _graph_and_tokens()
    mask = (ids > 0).long()
    written = io.BytesIO()
    with warnings.catch_warnings(), torch.inference_mode():
        # The exporter by tracing needs no further package; the graph has no data-dependent control flow.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            graph,
            (ids[:2, :8], mask[:2, :8]),
            written,  # type: ignore[arg-type]  # tracing takes a file, the types know only paths
            dynamo=False,
            opset_version=OPSET,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_axes={name: {0: "texts", 1: "wordpieces"} for name in INPUTS} | {OUTPUT: {0: "texts"}},
        )
        expected = graph(ids, mask).numpy()
    _check(written.getvalue(), ids.numpy(), mask.numpy(), expected)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.write_bytes(written.getvalue())
    draft.replace(path)  # whoever else makes it at this moment makes the same


def _graph_and_tokens() -> tuple[Any, Any]:
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    from pipeline.features.encoders import MiniLM

    disable_progress_bar()
    # eager: the fused attention picks its kernel by the mask's values, which a trace would freeze
    model = SentenceTransformer(
        str(MiniLM.folder_of_weights()),
        device="cpu",
        local_files_only=True,
        model_kwargs={"attn_implementation": "eager"},
    )

    class Graph(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            return self.model({"input_ids": input_ids, "attention_mask": attention_mask})[OUTPUT]

    tokens = model.tokenizer(
        list(TEXTS), truncation=True, max_length=model.max_seq_length, padding=True, return_tensors="pt"
    )
    return Graph().eval(), tokens["input_ids"]


def _check(graph: bytes, ids: Any, mask: Any, expected: Any) -> None:
    import onnxruntime as ort

    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = session.run([OUTPUT], dict(zip(INPUTS, (ids, mask), strict=True)))[0]
    worst = float(np.abs(found - expected).max())
    if not worst <= CLOSE:
        raise RuntimeError(f"the exported sentence encoder is {worst:g} away from torch's; {CLOSE:g} is allowed")


if __name__ == "__main__":
    export_minilm(Path(sys.argv[1]))
