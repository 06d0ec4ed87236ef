"""From the files of `data/training` and `data/item_vectors` to the tensors a model reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.data.sequences import Array
from pipeline.data.training_set import DomainData
from pipeline.exit_codes import BadConfiguration, DataBrokeContract
from pipeline.models.attributes import padded_bags
from pipeline.models.item_encoder import Catalogue
from pipeline.models.spec import ModelSpec
from pipeline.models.unit_rows import unit_rows
from pipeline.training.batches import TrainingDomain


@dataclass(frozen=True)
class Domain:
    """One domain, ready for training and ranking.

    Attributes:
        data: what stands in the files.
        catalogue: its items.
        profile_features: float32 [n_users, P].
        profile_attributes: int64 [n_users, A], hashed.
    """

    data: DomainData
    catalogue: Catalogue
    profile_features: Tensor
    profile_attributes: Tensor

    @property
    def name(self) -> str:
        """As in the dataset."""
        return self.data.name

    @property
    def training(self) -> TrainingDomain:
        """Its sequences as a source of batches."""
        return TrainingDomain(self.data.name, np.asarray(self.data.offsets), np.asarray(self.data.items))

    @property
    def shape(self) -> tuple[str, int]:
        """Name and number of items, as a spec wants them."""
        return self.data.name, self.data.n_items


def modalities(item_vectors: Path) -> tuple[tuple[str, int], ...]:
    """Name and width of every content vector, sorted by name."""
    about = json.loads((item_vectors / "vectors.json").read_text("utf-8"))
    return tuple(sorted((name, int(width)) for name, width in about["modalities"].items()))


def content_vectors(item_vectors: Path, data: DomainData, name: str, width: int) -> Array:
    """float32 [n_items + 1, width], rows of unit length; zeros where missing, also for a whole domain.

    Raises:
        DataBrokeContract: the file has another shape than the catalogue, or values that are no numbers.
    """
    path = item_vectors / data.name / f"{name}.npy"
    if not path.exists():
        return np.zeros((data.n_items + 1, width), dtype=np.float32)
    vectors = np.load(path)
    if vectors.shape != (data.n_items + 1, width):
        raise DataBrokeContract(
            f"{data.name}/{name}.npy has shape {vectors.shape} where {(data.n_items + 1, width)} is expected; "
            "the item vectors belong to another training set, run embed again"
        )
    if not np.isfinite(vectors).all():
        row = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
        raise DataBrokeContract(
            f"{data.name}/{name}.npy has a value that is no number, first for item {data.item_ids[row]!r}; "
            "repair the vector column of the items table"
        )
    return unit_rows(vectors.astype(np.float32))


def open_domain(data: DomainData, item_vectors: Path, spec: ModelSpec, device: torch.device) -> Domain:
    """Put a domain's tables on a device, laid out as `spec` wants them.

    Raises:
        BadConfiguration: the training set has other features than the model was made for.
        DataBrokeContract: see `content_vectors`.
    """
    for kind, wanted, found in (
        ("item", spec.item_features, data.item_feature_names),
        ("profile", spec.profile_features, data.profile_feature_names),
    ):
        none_read = kind == "item" and not wanted  # a model may be made to do without the items' statistics
        if wanted != found and not none_read:
            raise BadConfiguration(
                f"{data.name}: the model reads the {kind} features {list(wanted)} and the training set has "
                f"{list(found)}; train the backbone again on this training set"
            )
    content = {
        name: torch.from_numpy(content_vectors(item_vectors, data, name, width)).to(device)
        for name, width in spec.modalities
    }
    catalogue = Catalogue(
        content=content,
        attributes=torch.from_numpy(padded_bags(data.item_attributes, spec.attribute_buckets)).to(device),
        features=torch.from_numpy(data.item_features).to(device),
        trained=torch.from_numpy(np.asarray(data.in_training)).to(device),
    )
    return Domain(
        data=data,
        catalogue=catalogue,
        profile_features=torch.from_numpy(data.profile_features).to(device),
        profile_attributes=torch.from_numpy(padded_bags(data.user_attributes, spec.profile_buckets)).to(device),
    )
