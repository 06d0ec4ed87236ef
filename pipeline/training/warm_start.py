"""An incremental night: the backbone continues from an earlier one, on what is new and a share of what is old.

Weights do not simply pass on: overnight the catalogue gets items (so that rows of the ID table move) and the whitening
of the text vectors is fitted anew (so that their axes turn). IDs therefore pass by item, and each content projection is
fitted so that the items both nights know keep the content vectors they had: ridge regression, closed form.

What is old is replayed against forgetting (Robins 1995; for recommenders: ADER, Mi et al., RecSys 2020, arXiv
2007.12000): all users with an interaction that the start had not seen, and `replay` of the others, drawn per night.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch

from pipeline.data.schema import read_table, write_table
from pipeline.data.sequences import Array
from pipeline.exit_codes import BadConfiguration
from pipeline.lineage.cache import find, listing
from pipeline.models.profile import ANY_DOMAIN
from pipeline.models.recommender import SequentialRecommender
from pipeline.models.spec import SUM
from pipeline.settings import Settings
from pipeline.training.batches import TrainingDomain
from pipeline.training.domains import Domain
from pipeline.training.randomness import generator
from pipeline.training.weights import ABOUT, load_model

log = logging.getLogger(__name__)
ITEMS = "items.parquet"  # beside the weights: which item each row is, and its content vector
UP_TO = "learned_up_to"  # in model.json: microseconds UTC of the newest training interaction
RIDGE = 1e-3  # of the mean squared content value; the regression is over many more items than it has columns


@dataclass(frozen=True)
class Start:
    """An earlier backbone.

    Attributes:
        items: columns domain, item_id, content (list of `width` floats); a domain's rows in index order from 1.
        learned_up_to: microseconds UTC.
    """

    model: SequentialRecommender
    items: pl.DataFrame
    learned_up_to: int


def write_items(folder: Path, model: SequentialRecommender, domains: Sequence[Domain]) -> None:
    """Write what a later night needs beside the weights."""
    frames = [
        pl.DataFrame(
            {
                "domain": [domain.name] * domain.data.n_items,
                "item_id": domain.data.item_ids[1:],
                "content": pl.Series(_content(model, domain)[1:].tolist(), dtype=pl.List(pl.Float32)),
            }
        )
        for domain in domains
    ]
    write_table(pl.concat(frames), folder / ITEMS)


def learned_up_to(domains: Sequence[Domain]) -> int:
    """Microseconds UTC of the newest training interaction, 0 without any."""
    return max((int(domain.data.times.max()) for domain in domains if len(domain.data.times)), default=0)


def fetch(settings: Settings, md5: str, into: Path) -> Start:
    """The backbone with this md5, from DVC's cache or a remote that is a folder.

    Raises:
        BadConfiguration: it is not there, or was made before backbones could be continued from.
    """
    whole = find(settings, md5)
    files = {file["relpath"]: find(settings, file["md5"]) for file in listing(whole)} if whole else {}
    missing = [name for name, found in files.items() if found is None]
    if not files or missing:
        what = f"{', '.join(missing)} of it" if missing else "it"
        raise BadConfiguration(
            f"pretrain.start is {md5}, and {what} is not in DVC's cache; fetch it, or set pretrain.warm_start=none"
        )
    into.mkdir(parents=True, exist_ok=True)
    for name, found in files.items():
        assert found is not None
        (into / name).write_bytes(found.read_bytes())
    return read_start(into)


def read_start(folder: Path) -> Start:
    """A backbone's folder as a start.

    Raises:
        BadConfiguration: it is no whole backbone, or an older one.
    """
    about = json.loads((folder / ABOUT).read_text("utf-8"))
    if UP_TO not in about or not (folder / ITEMS).exists():
        raise BadConfiguration(
            "pretrain.start names a backbone of an earlier release, which does not say which item each row is;"
            " set pretrain.warm_start=none for one night"
        )
    return Start(load_model(folder), read_table(folder / ITEMS), int(about[UP_TO]))


@torch.no_grad()
def continue_from(start: Start, model: SequentialRecommender, domains: Sequence[Domain]) -> None:
    """Overwrite the weights of `model`, fresh, by those of `start` wherever they mean the same.

    Raises:
        BadConfiguration: the two models have another shape or other features, fuse content vectors in another way than
            by a sum, or read times or events.
    """
    own = replace(start.model.spec, domains=model.spec.domains, dropout=0.0, id_dropout=0.0, similarity=0.0)
    wanted = replace(model.spec, modalities=own.modalities, dropout=0.0, id_dropout=0.0, similarity=0.0)
    if own != wanted:
        old, new = own.to_json(), wanted.to_json()
        differing = ", ".join(f"{name} {old[name]} → {new[name]}" for name in new if old[name] != new[name])
        raise BadConfiguration(
            f"pretrain cannot continue from the champion's backbone, whose shape is another: {differing}; set"
            " pretrain.warm_start=none for this night"
        )
    if own.fusion != SUM:
        raise BadConfiguration(
            f"pretrain cannot continue from a backbone whose pretrain.fusion is {own.fusion}: the content projections"
            " are fitted anew each night, behind a plain sum; set pretrain.warm_start=none"
        )
    if own.reads_moments:
        raise BadConfiguration(
            "pretrain cannot continue from a backbone with pretrain.relative_time or pretrain.events: what is replayed"
            " comes without times and events; set pretrain.warm_start=none"
        )
    passed = ("trunk.", "items.attributes.", "items.features.", "items.up.", "profile.")
    weights = {
        name: weight
        for name, weight in start.model.state_dict().items()
        if name.startswith(passed) and name != "profile.domains.weight"
    }
    model.load_state_dict(weights, strict=False)
    tokens, old_tokens = model.profile.domains.weight, start.model.profile.domains.weight
    tokens[ANY_DOMAIN] = old_tokens[ANY_DOMAIN]
    for name in model.spec.domain_names:
        tokens[model.profile.row[name]] = old_tokens[start.model.profile.row.get(name, ANY_DOMAIN)]
    pairs = {domain.name: _pairs(start, domain) for domain in domains}
    for domain in domains:
        now, then = pairs[domain.name]
        first = model.items.first_row[domain.name]
        rows = model.items.id_rows[first : first + domain.data.n_items + 1]
        rows.zero_()  # a new item is ranked by content until it has learned better
        if len(now):
            rows[now] = start.model.items.id_rows[start.model.items.first_row[domain.name] + then]
    _fit_projections(start, model, domains, pairs)
    kept = sum(len(now) for now, _ in pairs.values())
    total = sum(domain.data.n_items for domain in domains)
    log.info("pretrain: %s of %s items known to the start", f"{kept:,}", f"{total:,}")


def to_replay(domains: Sequence[Domain], start: Start, share: float, seed: int) -> list[TrainingDomain]:
    """The sequences to train on: of users with anything new, and `share` of the others (another draw every night)."""
    chosen = []
    for domain in domains:
        offsets, times = np.asarray(domain.data.offsets), np.asarray(domain.data.times)
        since = np.concatenate([[0], np.cumsum(times > start.learned_up_to)])
        has_new = since[offsets[1:]] > since[offsets[:-1]]
        draws = generator(seed, "replay", domain.name, start.learned_up_to)
        keep = has_new | (draws.random(len(has_new)) < share)
        lengths = np.diff(offsets) * keep
        items = np.asarray(domain.data.items)[np.repeat(keep, np.diff(offsets))]
        # users keep their index: a batch looks up their profile by it
        chosen.append(TrainingDomain(domain.name, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), items))
        log.info(
            "%s: %s users with something new, %s replayed", domain.name,
            f"{int(has_new.sum()):,}", f"{int((keep & ~has_new & (np.diff(offsets) > 0)).sum()):,}",
        )  # fmt: skip
    return chosen


def _pairs(start: Start, domain: Domain) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices, now and then, of the items that both nights know."""
    then = {item: row for row, item in enumerate(start.items.filter(pl.col("domain") == domain.name)["item_id"], 1)}
    both = [(now, then[item]) for now, item in enumerate(domain.data.item_ids) if item in then]
    indices = torch.tensor(both, dtype=torch.int64).reshape(-1, 2)
    return indices[:, 0], indices[:, 1]


@torch.no_grad()
def _content(model: SequentialRecommender, domain: Domain) -> Array:
    """float32 [n_items + 1, width]: the part of the item vectors that comes from content vectors."""
    total = torch.zeros(domain.data.n_items + 1, model.spec.width, device=domain.catalogue.device)
    for name, projection in model.items.content.items():
        total += projection(domain.catalogue.content[name])
    found: Array = total.cpu().numpy()
    return found


def _fit_projections(
    start: Start,
    model: SequentialRecommender,
    domains: Sequence[Domain],
    pairs: dict[str, tuple[torch.Tensor, torch.Tensor]],
) -> None:
    """All content projections at once: min ‖X·P − C‖² + ridge·‖P‖² over the items known to both nights."""
    names = list(model.items.content)
    x, c = [], []
    for domain in domains:
        now, then = pairs[domain.name]
        old = start.items.filter(pl.col("domain") == domain.name)["content"]
        if len(now):
            x.append(np.hstack([domain.catalogue.content[n].cpu().numpy()[now.numpy()] for n in names]))
            c.append(np.array(old.to_list(), dtype=np.float64)[then.numpy() - 1])
    if not x or not names:
        return
    known, wanted = np.vstack(x).astype(np.float64), np.vstack(c)
    squares = known.T @ known
    squares[np.diag_indices_from(squares)] += RIDGE * np.trace(squares) / len(squares) + 1e-12
    fitted = np.linalg.solve(squares, known.T @ wanted)  # (Σ widths, D)
    first = 0
    for name in names:
        weight = model.items.content[name].get_parameter("weight")  # (D, width)
        part = fitted[first : first + weight.shape[1]].T
        weight.copy_(torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)))
        first += weight.shape[1]
