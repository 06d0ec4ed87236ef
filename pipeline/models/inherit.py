"""Weights that pass from one model to another: a backbone becomes the start of a target's model.

Shared parts pass whole. Of the per-domain tables, a domain's rows pass when both models know the domain; a domain
that is new starts from the token of no particular domain and with ID vectors of zero, so that it is ranked by
content until it has learned better.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from pipeline.models.profile import ANY_DOMAIN
from pipeline.models.recommender import SequentialRecommender


@torch.no_grad()
def inherit(model: SequentialRecommender, parent: SequentialRecommender) -> None:
    """Overwrite the weights of `model` by those of `parent` wherever they mean the same.

    Raises:
        RuntimeError: the shared parts differ in shape.
    """
    own = {"items.ids.weight", "profile.domains.weight"}
    shared = {name: weight for name, weight in parent.state_dict().items() if name not in own}
    model.load_state_dict(shared, strict=False)
    tokens, parent_tokens = model.profile.domains.weight, parent.profile.domains.weight
    tokens[ANY_DOMAIN] = parent_tokens[ANY_DOMAIN]
    for domain, n_items in model.spec.domains:
        tokens[model.profile.row[domain]] = parent_tokens[parent.profile.row.get(domain, ANY_DOMAIN)]
        start = model.items.first_row[domain]
        model.items.id_rows[start : start + n_items + 1] = 0.0
        if domain in parent.spec.domain_names:
            parent_start = parent.items.first_row[domain]
            rows = parent.items.id_rows[parent_start : parent_start + n_items + 1]
            model.items.id_rows[start : start + n_items + 1] = rows


def items_alone(model: SequentialRecommender) -> SequentialRecommender:
    """The same model without what it knows of times and events: what is left reads items, as a served graph does."""
    plain = SequentialRecommender(replace(model.spec, relative_time=False, events=()))
    kept = plain.state_dict().keys()
    plain.load_state_dict({name: weight for name, weight in model.state_dict().items() if name in kept})
    return plain.eval()


def adapted(
    parent: SequentialRecommender, domain: tuple[str, int], dropout: float, id_dropout: float
) -> SequentialRecommender:
    """A model of the parent's shape for one domain (name, number of items), started from the parent's weights."""
    spec = replace(parent.spec, domains=(domain,), dropout=dropout, id_dropout=id_dropout)
    model = SequentialRecommender(spec)
    inherit(model, parent)
    return model
