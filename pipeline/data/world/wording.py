"""Names, texts and attributes of the synthetic world: what a model may read of the latent topics."""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.data.world.truth import Catalogue, Ints, Lexicon

WITHOUT_TEXT = 0.02  # share of items whose text is null: legal, and must be survived
STRAY_WORD = 0.15  # share of items with a word from somewhere else


def item_table(rng: np.random.Generator, words: Lexicon, catalogue: Catalogue, prefix: str) -> pl.DataFrame:
    """`item_id`, `text`, `attributes`, `first_epoch`, in catalogue order."""
    count = len(catalogue.topic)
    number = rng.permutation(count)  # an id must not tell the topic
    bands = rng.choice(["budget", "mid", "premium"], count, p=[0.4, 0.4, 0.2])
    texts: list[str | None] = []
    attributes: list[list[str]] = []
    for item, topic in enumerate(catalogue.topic):
        own = rng.choice(words.words[topic], 4, replace=False)
        brand = words.brands[topic][rng.integers(len(words.brands[topic]))]
        plain = words.plain[rng.integers(len(words.plain))]
        extra = own[3]
        if rng.random() < STRAY_WORD:
            extra = words.words[rng.integers(len(words.words))][0]
        title = f"{brand} {plain} {own[0]} {own[1]} with {own[2]} and {extra}"
        texts.append(None if rng.random() < WITHOUT_TEXT else title)
        attributes.append([f"brand:{brand}", f"category:{words.categories[topic]}", f"price:{bands[item]}"])
    return pl.DataFrame(
        {
            "item_id": [f"{prefix}{n:06d}" for n in number],
            "text": texts,
            "attributes": attributes,
            "first_epoch": catalogue.first_epoch,
        },
        schema_overrides={"text": pl.String},
    )


def person_table(rng: np.random.Generator, words: Lexicon, segment: Ints) -> pl.DataFrame:
    """`user_id`, `attributes` of every person; one person in ten has told nothing."""
    count = len(segment)
    known = pl.Series(rng.random(count) < 0.9)
    shown = pl.DataFrame(
        {
            "segment": np.array([f"segment:{name}" for name in words.segments])[segment],
            "age": np.array([f"age:{age}" for age in words.ages])[rng.integers(0, len(words.ages), count)],
            "device": np.array([f"device:{name}" for name in words.devices])[
                rng.integers(0, len(words.devices), count)
            ],
        }
    )
    attributes = shown.select(pl.concat_list("segment", "age", "device")).to_series()
    nothing = pl.Series([[]], dtype=pl.List(pl.String))
    ids = pl.Series("user_id", np.arange(count)).cast(pl.String).str.zfill(7)
    return pl.DataFrame({"user_id": "u" + ids, "known": known, "attributes": attributes}).select(
        "user_id", pl.when("known").then("attributes").otherwise(pl.lit(nothing).first()).alias("attributes")
    )
