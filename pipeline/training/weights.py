"""A model's folder: `model.safetensors` beside `model.json`, which says how to rebuild it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from pipeline.exit_codes import BadConfiguration
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.spec import ModelSpec

WEIGHTS, ABOUT = "model.safetensors", "model.json"


def weights_hash(model: torch.nn.Module) -> str:
    """SHA-256 over names, shapes and bytes of all weights, in order of name."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_model(folder: Path, model: SequentialRecommender, about: dict[str, Any]) -> None:
    """Write weights and description; the same bytes for the same model."""
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    (folder / WEIGHTS).write_bytes(save(weights))
    described = {
        **about,
        "spec": model.spec.to_json(),
        "parameters": model.n_parameters,
        "weights_sha256": weights_hash(model),
    }
    (folder / ABOUT).write_text(json.dumps(described, indent=1, sort_keys=True) + "\n", "utf-8")


def load_model(folder: Path) -> SequentialRecommender:
    """Rebuild a model from its folder, on the CPU and in evaluation mode.

    Raises:
        BadConfiguration: the folder is not a model's, or its weights do not fit its description.
    """
    try:
        spec = ModelSpec.from_json(json.loads((folder / ABOUT).read_text("utf-8"))["spec"])
        model = SequentialRecommender(spec)
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (FileNotFoundError, KeyError, RuntimeError, ValueError, SafetensorError) as error:
        raise BadConfiguration(
            f"{folder.parent.name}/{folder.name} does not hold a whole model ({error}); run its stage again"
        ) from error
    return model.eval()


def write_history(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Write `history.jsonl`: one JSON object an epoch."""
    rows = "".join(json.dumps(row, sort_keys=True) + "\n" for row in history)
    (folder / "history.jsonl").write_text(rows, "utf-8")
