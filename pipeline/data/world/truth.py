"""What is true in the synthetic world and hidden from the models: topics, tastes, transitions, trend, popularity.

A user's next item is drawn in two steps. The topic comes from

    mix(k | user, last topic, epoch) = TASTE · taste[user, k] + SEQUENCE · transition[last, k] + TREND · trend[epoch, k]

(a first interaction, which has no last topic, uses the taste in its place), the item from the weights of the items of
that topic that are available; an item the user has had is drawn again from the start. Hence, exactly,

    p(item i) ∝ mix(topic of i) · weight_i / Σ weights available in the topic,   over available items not yet seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.data.world.params import COLD_FROM, EPOCHS, Market

TASTE, SEQUENCE, TREND = 0.45, 0.48, 0.07
ZIPF = 0.9  # popularity within a topic: weight ∝ rank^-ZIPF
LAUNCH = 2.0  # what appears late is advertised

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Lexicon:
    """The word lists of `topics.yaml`, topics flattened: topic k has words[k], brands[k] and categories[k]."""

    topics: list[str]
    words: list[list[str]]
    brands: list[list[str]]
    categories: list[str]
    plain: list[str]
    segments: list[str]
    devices: list[str]
    ages: list[str]


@dataclass(frozen=True)
class Shared:
    """What all markets share. K topics, S segments.

    Attributes:
        transition: [K, K], row k: where a user goes after topic k.
        trend: [EPOCHS, K], what everybody likes at the moment.
        segment_centre: [S, K].
    """

    transition: Floats
    trend: Floats
    segment_centre: Floats


@dataclass(frozen=True)
class Catalogue:
    """The items of one market, ordered by topic and within a topic by falling weight.

    Attributes:
        topic: [N]; weight: [N], no two alike; first_epoch: [N], available from the start of that epoch on.
        topic_start: [K + 1], items of topic k are topic_start[k]:topic_start[k + 1].
        available: [EPOCHS, N] bool; total: [EPOCHS, K], Σ weights available in the topic (never 0).
    """

    topic: Ints
    weight: Floats
    first_epoch: Ints
    topic_start: Ints
    available: NDArray[np.bool_]
    total: Floats


@dataclass(frozen=True)
class People:
    """Everybody in the world. P persons.

    Attributes:
        taste: [P, K]; segment: [P]; a person has one id and one taste in every market.
    """

    taste: Floats
    segment: Ints


def lexicon() -> Lexicon:
    """The word lists."""
    found: dict[str, Any] = yaml.safe_load((Path(__file__).parent.parent / "topics.yaml").read_text("utf-8"))
    flat = [
        (topic, words, group["brands"], category)
        for category, group in found["categories"].items()
        for topic, words in group["topics"].items()
    ]
    topics, words, brands, categories = (list(column) for column in zip(*flat, strict=True))
    ages = [str(age) for age in found["ages"]]
    return Lexicon(topics, words, brands, categories, found["plain"], found["segments"], found["devices"], ages)


def draw_shared(rng: np.random.Generator, topics: int, segments: int) -> Shared:
    """Transitions, trend and segments."""
    transition = np.full((topics, topics), 0.04 / topics)
    for topic in range(topics):
        others = np.setdiff1d(np.arange(topics), [topic])
        transition[topic, rng.choice(others, 3, replace=False)] += [0.56, 0.26, 0.14]
    moment = np.linspace(0, 1, EPOCHS)[:, None]
    phase, swings = rng.uniform(0, 2 * np.pi, topics), rng.uniform(0.5, 1.5, topics)
    trend = np.exp(0.5 * rng.normal(size=topics) + np.sin(2 * np.pi * swings * moment + phase))
    centre = rng.dirichlet(np.full(topics, 0.12), segments)
    return Shared(transition, trend / trend.sum(1, keepdims=True), 0.95 * centre + 0.05 / topics)


def draw_people(rng: np.random.Generator, shared: Shared, count: int) -> People:
    """Tastes: Dirichlet draws around the centre of the person's segment."""
    segments, topics = shared.segment_centre.shape
    segment = rng.integers(0, segments, count)
    taste = rng.gamma(5.0 * shared.segment_centre[segment] + 0.02) + 1e-9  # a normalised gamma draw is a Dirichlet draw
    return People(0.97 * taste / taste.sum(1, keepdims=True) + 0.03 / topics, segment)


def draw_catalogue(rng: np.random.Generator, market: Market, topics: int) -> Catalogue:
    """The items of a market: a third comes in the course of the year, a seventh after `COLD_FROM`."""
    count = market.items
    topic = np.sort(np.arange(count) % topics)
    start = np.searchsorted(topic, np.arange(topics + 1))
    rank = 1 + np.arange(count) - start[topic]
    cold = int(np.ceil(COLD_FROM * EPOCHS))
    kind = rng.random(count)
    first_epoch = np.where(kind < 0.14, rng.integers(cold, EPOCHS - 1, count), rng.integers(1, cold, count))
    first_epoch[kind > 0.35] = 0
    # The item of rank 2 of every topic is there from the beginning, so that no topic is ever empty.
    first_epoch[np.minimum(start[:-1] + 1, start[1:] - 1)] = 0
    weight = rank**-ZIPF * rng.uniform(0.9, 1.1, count) * np.where(first_epoch >= cold, LAUNCH, 1.0)
    order = np.lexsort((-weight, topic))
    weight, first_epoch = weight[order], first_epoch[order]
    available = np.arange(EPOCHS)[:, None] >= first_epoch
    total = np.add.reduceat(np.where(available, weight, 0.0), start[:-1], axis=1)
    return Catalogue(topic, weight, first_epoch, start, available, total)


def topic_mix(shared: Shared, taste: Floats, last_topic: Ints, epoch: Ints) -> Floats:
    """mix(k): [n, K], rows sum to 1. `taste` [n, K]; `last_topic` [n], -1 for a first interaction; `epoch` [n]."""
    following = np.where(last_topic[:, None] >= 0, shared.transition[last_topic], taste)
    return TASTE * taste + SEQUENCE * following + TREND * shared.trend[epoch]


def item_scores(catalogue: Catalogue, mix: Floats, epoch: int) -> Floats:
    """[N] probability of every item before seen items are taken out; 0 for what is not available. `mix` [K]."""
    per_weight = mix / catalogue.total[epoch]
    return np.where(catalogue.available[epoch], per_weight[catalogue.topic] * catalogue.weight, 0.0)
