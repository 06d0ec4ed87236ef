"""An incremental night: what passes from one backbone to the next, and what is trained again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from pipeline.exit_codes import BadConfiguration
from pipeline.lineage.cache import object_path
from pipeline.models.item_encoder import Catalogue
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.spec import ModelSpec, uniform_layers
from pipeline.settings import Settings
from pipeline.training.warm_start import UP_TO, Start, continue_from, fetch, read_start, to_replay, write_items
from pipeline.training.weights import save_model

WIDTH, CONTENT = 8, 4


def spec_for(n_items: int, **more: Any) -> ModelSpec:
    about = {
        "width": WIDTH, "head_width": 4, "layers": uniform_layers(1, 2, 16), "max_length": 5, "id_width": WIDTH,
        "attribute_buckets": 16, "profile_buckets": 8, "modalities": (("text", CONTENT),), "item_features": (),
        "profile_features": ("age",), "domains": (("metro", n_items),),
    }  # fmt: skip
    return ModelSpec(**{**about, **more})


def domain_of(ids: list[str], vectors: np.ndarray, users: list[list[int]] = (), times: list[int] = ()) -> Any:  # type: ignore[assignment]
    """A domain with items `ids`, their content vectors [n, CONTENT], and users' items."""
    n = len(ids)
    catalogue = Catalogue(
        content={"text": torch.from_numpy(np.vstack([np.zeros(CONTENT), vectors]).astype(np.float32))},
        attributes=torch.zeros(n + 1, 1, dtype=torch.int64),
        features=torch.zeros(n + 1, 0),
        trained=torch.tensor([False] + [True] * n),
    )
    offsets = np.concatenate([[0], np.cumsum([len(items) for items in users])]).astype(np.int64)
    data = SimpleNamespace(
        n_items=n, item_ids=["", *ids], offsets=offsets, times=np.array(times, dtype=np.int64),
        items=np.array([item for items in users for item in items], dtype=np.int32),
    )  # fmt: skip
    return SimpleNamespace(name="metro", data=data, catalogue=catalogue)


@pytest.fixture
def night(tmp_path: Path) -> tuple[Path, SequentialRecommender, Any, np.ndarray]:
    """Last night's folder, model, domain (30 items) and content vectors."""
    draws = np.random.default_rng(1)
    torch.manual_seed(1)
    ids, vectors = [f"i{n:02d}" for n in range(30)], draws.normal(size=(30, CONTENT))
    model, domain = SequentialRecommender(spec_for(30)).eval(), domain_of(ids, vectors)
    folder = tmp_path / "backbone"
    folder.mkdir()
    save_model(folder, model, {UP_TO: 1_000})
    write_items(folder, model, [domain])
    return folder, model, domain, vectors


def test_items_keep_their_vectors_when_rows_move_and_axes_turn(night) -> None:
    """A new item shifts every index, and the whitening of another night is another basis: the vectors are the same."""
    folder, model, domain, vectors = night
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(CONTENT, CONTENT)))
    ids = ["a new one", *domain.data.item_ids[1:]]
    now = domain_of(ids, np.vstack([np.zeros(CONTENT), vectors]) @ turn)
    torch.manual_seed(2)
    fresh = SequentialRecommender(spec_for(31)).eval()
    continue_from(read_start(folder), fresh, [now])
    with torch.inference_mode():
        before, after = model.item_vectors("metro", domain.catalogue), fresh.item_vectors("metro", now.catalogue)
    assert torch.allclose(after[2:], before[1:], atol=5e-3)
    assert torch.equal(fresh.items.ids.weight[1], torch.zeros(WIDTH))  # the new item is ranked by content
    for name, weight in model.trunk.state_dict().items():
        assert torch.equal(fresh.trunk.state_dict()[name], weight)


def test_another_shape_is_refused_in_words(night) -> None:
    folder, _, domain, _ = night
    wider = SequentialRecommender(spec_for(30, max_length=9))
    with pytest.raises(BadConfiguration, match=r"max_length 5 → 9.*warm_start=none"):
        continue_from(read_start(folder), wider, [domain])


def test_everybody_with_something_new_and_a_share_of_the_others() -> None:
    users = [[1, 2]] * 100 + [[2, 3]] * 10
    times = [10, 20] * 100 + [10, 2_000] * 10
    domain = domain_of([f"i{n}" for n in range(3)], np.zeros((3, CONTENT)), users, times)
    start = Start(None, pl.DataFrame(), 1_000)  # type: ignore[arg-type]
    [chosen] = to_replay([domain], start, 0.3, seed=7)
    lengths = np.diff(chosen.offsets)
    assert len(lengths) == 110  # users keep their index
    assert (lengths[100:] == 2).all()
    assert 15 <= (lengths[:100] > 0).sum() <= 45
    assert chosen.items[chosen.offsets[100] : chosen.offsets[101]].tolist() == [2, 3]
    [same], [other] = to_replay([domain], start, 0.3, 7), to_replay([domain], Start(None, pl.DataFrame(), 999), 0.3, 7)  # type: ignore[arg-type]
    assert np.array_equal(same.offsets, chosen.offsets)
    assert not np.array_equal(other.offsets, chosen.offsets)  # another night draws others


def test_the_start_comes_from_the_cache_by_its_md5(night, tmp_path: Path) -> None:
    folder, _, _, _ = night
    home = Settings(home=tmp_path / "home")

    def put(content: bytes, ending: str = "") -> str:
        md5 = hashlib.md5(content).hexdigest() + ending
        path = object_path(home.home / "dvc" / "cache", md5)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return md5

    files = [{"md5": put(path.read_bytes()), "relpath": path.name} for path in sorted(folder.iterdir())]
    md5 = put(json.dumps(files).encode(), ".dir")
    assert fetch(home, md5, tmp_path / "start").learned_up_to == 1_000
    object_path(home.home / "dvc" / "cache", files[0]["md5"]).unlink()
    with pytest.raises(BadConfiguration, match=rf"{files[0]['relpath']} of it is not in"):
        fetch(home, md5, tmp_path / "again")


def test_a_backbone_of_an_earlier_release_is_refused(night) -> None:
    folder, _, _, _ = night
    (folder / "items.parquet").unlink()
    with pytest.raises(BadConfiguration, match="earlier release"):
        read_start(folder)
