"""The shape of a model: everything needed to rebuild it before its weights are read."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

LEARNED, ROTARY = "learned", "rotary"  # positions
GELU, SWIGLU = "gelu", "swiglu"  # feed_forward
SUM, GATES, DECISION = "sum", "gates", "decision"  # fusion


@dataclass(frozen=True)
class LayerShape:
    """One Transformer layer; after pruning, layers differ."""

    heads: int
    channels: int  # of the feed-forward part


@dataclass(frozen=True)
class ModelSpec:
    """The shape of a `SequentialRecommender`.

    Attributes:
        width: of item vectors and of the trunk; of all members together.
        head_width: of one attention head; heads may be pruned, their width stays.
        layers: from the first to the last.
        max_length: items of history that are read; older ones are cut.
        id_width: of the ID vectors; below `width` they pass through an up-projection (a low-rank item table).
        attribute_buckets, profile_buckets: rows of the hashed attribute tables of items and of users.
        modalities: name and width of each content vector, sorted by name.
        item_features, profile_features: names, in column order.
        domains: name and number of items of each domain with ID vectors here, in the order of the tables.
        dropout, id_dropout: probabilities in training; an ID vector is dropped whole.
        recency: decayed means of the history are added to the states (pipeline/models/recency.py).
        table: how ID vectors are kept (pipeline/models/item_table.py).
        id_parts, id_codes: pieces of a coded ID vector, and how many there are of each.
        positions: learned, a table, or rotary (pipeline/models/rotary.py), for even head widths.
        feed_forward: gelu or swiglu, which has a second projection to the channels.
        residual_gates: what a layer adds passes a gate (pipeline/models/trunk.py).
        fusion: of an item's content vectors: sum, gates (pipeline/models/fusion.py) or decision (models/decision.py).
        similarity: weight of the likeness in content beside what is learned, 0 is none (pipeline/models/similarity.py).
        attribute_gain: of the mean of an item's attribute vectors; the louder, the faster they learn.
        members: trunks side by side that share the width and learn apart (pipeline/models/members.py).
        id_alone: an item with an ID vector is nothing else; content stands in for the others (models/item_encoder.py).
        newcomer: calibrated: a vector stands for features and ID of items outside of training (models/item_encoder.py).
        relative_time: how long ago an item was taken is a bias of attention (pipeline/models/relative_time.py).
        events: names of the events that have vectors, codes from 1; none: neither events nor values are read
            (pipeline/models/interactions.py).
        newcomer_likeness: what the likeness in content of such an item is multiplied with.
        kept_places: first places of a list that such an item never takes (pipeline/evaluation/kept_places.py).
        user_state: a user's own offset is added to the states (pipeline/models/user_state.py).
    """

    width: int
    head_width: int
    layers: tuple[LayerShape, ...]
    max_length: int
    id_width: int
    attribute_buckets: int
    profile_buckets: int
    modalities: tuple[tuple[str, int], ...]
    item_features: tuple[str, ...]
    profile_features: tuple[str, ...]
    domains: tuple[tuple[str, int], ...]
    dropout: float = 0.0
    id_dropout: float = 0.0
    recency: bool = False
    table: str = "factors"
    id_parts: int = 1
    id_codes: int = 1
    positions: str = LEARNED
    feed_forward: str = GELU
    residual_gates: bool = False
    fusion: str = SUM
    similarity: float = 0.0
    newcomer: bool = False
    relative_time: bool = False
    events: tuple[str, ...] = ()
    newcomer_likeness: float = 1.0
    kept_places: int = 0
    user_state: bool = False
    id_alone: bool = False
    members: int = 1
    attribute_gain: float = 1.0

    @property
    def domain_names(self) -> tuple[str, ...]:
        """In the order of the tables."""
        return tuple(name for name, _ in self.domains)

    @property
    def member_width(self) -> int:
        """Of one member's item vectors and trunk."""
        return self.width // self.members

    @property
    def item_parts(self) -> int:
        """Vectors of `width` numbers that stand side by side in what is learned of an item."""
        return 1 + len(self.modalities) if self.fusion == DECISION else 1

    @property
    def score_width(self) -> int:
        """Of the item vectors and states whose products are scores, outside of training."""
        likeness = sum(width for _, width in self.modalities) if self.similarity else 0
        return self.item_parts * self.width + likeness

    @property
    def reads_moments(self) -> bool:
        """More of a history is read than its items."""
        return self.relative_time or bool(self.events)

    def for_domains(self, *domains: tuple[str, int]) -> ModelSpec:
        """The same model with ID vectors for other domains."""
        return replace(self, domains=domains)

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ModelSpec:
        """The inverse of `to_json`.

        Raises:
            KeyError: an attribute is missing.
        """
        return cls(
            width=values["width"],
            head_width=values["head_width"],
            layers=tuple(LayerShape(**layer) for layer in values["layers"]),
            max_length=values["max_length"],
            id_width=values["id_width"],
            attribute_buckets=values["attribute_buckets"],
            profile_buckets=values["profile_buckets"],
            modalities=tuple((name, width) for name, width in values["modalities"]),
            item_features=tuple(values["item_features"]),
            profile_features=tuple(values["profile_features"]),
            domains=tuple((name, n_items) for name, n_items in values["domains"]),
            dropout=values["dropout"],
            id_dropout=values["id_dropout"],
            # specs of earlier models do not name these
            recency=values.get("recency", False),
            table=values.get("table", "factors"),
            id_parts=values.get("id_parts", 1),
            id_codes=values.get("id_codes", 1),
            positions=values.get("positions", LEARNED),
            feed_forward=values.get("feed_forward", GELU),
            residual_gates=values.get("residual_gates", False),
            fusion=values.get("fusion", SUM),
            similarity=values.get("similarity", 0.0),
            newcomer=values.get("newcomer", False),
            relative_time=values.get("relative_time", False),
            events=tuple(values.get("events", ())),
            newcomer_likeness=values.get("newcomer_likeness", 1.0),
            kept_places=values.get("kept_places", 0),
            user_state=values.get("user_state", False),
            id_alone=values.get("id_alone", False),
            members=values.get("members", 1),
            attribute_gain=values.get("attribute_gain", 1.0),
        )


def uniform_layers(layers: int, heads: int, channels: int) -> tuple[LayerShape, ...]:
    """`layers` equal layers."""
    return (LayerShape(heads, channels),) * layers
