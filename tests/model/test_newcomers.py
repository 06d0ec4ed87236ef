"""New items among the others: what calibration gives, what it costs, and that the served model has it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.compression.served_model import ServedModel
from pipeline.evaluation.kept_places import lifted
from pipeline.evaluation.metrics import ndcg
from pipeline.evaluation.ranking import best_unseen, rank_holdout
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.scoring import ModelScorer
from pipeline.training.weights import load_model, weights_hash
from pipeline.transfer.newcomers import calibrated

NEW = slice(3, None, 4)  # items that are taken out of training


@pytest.fixture(scope="module")
def uncalibrated(chain, tmp_path_factory) -> SequentialRecommender:
    copy = chain.copy_to(tmp_path_factory.mktemp("uncalibrated"))
    copy.run("transfer", newcomer_loss=None)
    return load_model(copy.folder("models/teacher"))


@pytest.fixture
def with_new(uncalibrated, opened):
    """The target, a quarter of its items as if nobody had ever taken them."""
    domain = opened(uncalibrated)
    trained = domain.catalogue.trained.clone()
    trained[NEW] = False
    features = domain.catalogue.features.clone()
    features[~trained] = -5.0  # of a range that training never showed
    return replace(domain, catalogue=replace(domain.catalogue, trained=trained, features=features))


def judged(model, domain) -> tuple[float, float, float]:
    """NDCG@10 of trained and of new items on the validation rows, and of trained ones with no new item beside them."""
    holdout, n = domain.data.holdout("validation"), domain.data.n_items
    trained = domain.catalogue.trained.numpy()
    is_warm = trained[holdout.item_index]
    scorer = ModelScorer(model, domain)

    class Alone:
        def scores(self, requests):
            return np.where(trained, scorer.scores(requests), -np.inf)

    found = ndcg(rank_holdout(scorer, holdout, n).masked, 10)
    alone = ndcg(rank_holdout(Alone(), holdout, n).masked, 10)
    return found[is_warm].mean(), found[~is_warm].mean(), alone[is_warm].mean()


def test_new_items_gain_and_the_others_lose_no_more_than_was_agreed(uncalibrated, with_new):
    before = judged(uncalibrated, with_new)
    last = -1.0
    for loss in (0.02, 0.1, 0.5):
        model, found = calibrated(uncalibrated, with_new, loss, 5000, 7)
        assert found.warm_alone == pytest.approx(before[2], abs=0.02)  # histories hold new items too
        assert found.warm >= (1 - loss) * found.warm_alone
        warm, cold, _ = judged(model, with_new)
        assert (warm, cold) == pytest.approx((found.warm, found.cold), abs=0.08)
        assert cold >= last
        last = cold
    assert cold > before[1]


def test_kept_places_show_more_new_items_for_the_same_loss(uncalibrated, with_new):
    anywhere, _ = calibrated(uncalibrated, with_new, 0.1, 5000, 7)
    model, found = calibrated(uncalibrated, with_new, 0.1, 5000, 7, places=3)
    assert model.spec.kept_places == 7
    assert found.warm >= 0.9 * found.warm_alone
    holdout, n = with_new.data.holdout("validation"), with_new.data.n_items
    top = rank_holdout(ModelScorer(model, with_new), holdout, n, top=10).top
    is_new = ~with_new.catalogue.trained.numpy()
    assert not is_new[top[:, :7]].any()
    usual = rank_holdout(ModelScorer(anywhere, with_new), holdout, n, top=10).top
    assert is_new[top[:, 7:]].mean() > is_new[usual[:, 7:]].mean()


def test_the_model_that_was_given_stays_as_it_is(uncalibrated, with_new):
    before = weights_hash(uncalibrated)
    model, _ = calibrated(uncalibrated, with_new, 0.1, 5000, 7)
    assert weights_hash(uncalibrated) == before
    assert not uncalibrated.spec.newcomer
    vectors = [one.item_vectors("t", with_new.catalogue) for one in (uncalibrated, model)]
    trained = with_new.catalogue.trained
    assert torch.equal(vectors[0][trained], vectors[1][trained])
    assert not torch.allclose(vectors[0][~trained][1:], vectors[1][~trained][1:])
    assert not vectors[1][0].any()


def test_a_catalogue_without_new_items_is_calibrated_by_its_own(uncalibrated, opened):
    domain = opened(uncalibrated)
    everything = torch.ones_like(domain.catalogue.trained)
    everything[0] = False
    domain = replace(domain, catalogue=replace(domain.catalogue, trained=everything))
    model, found = calibrated(uncalibrated, domain, 0.02, 5000, 7)
    assert found.cold is None
    assert "reach" not in found.sentence
    assert found.warm >= 0.98 * found.warm_alone
    assert model.items.newcomer.abs().sum() > 0


def test_where_most_wanted_items_are_new_they_are_not_made_quieter(uncalibrated, with_new):
    few = torch.zeros_like(with_new.catalogue.trained)
    few[1:13] = True
    domain = replace(with_new, catalogue=replace(with_new.catalogue, trained=few))
    _, found = calibrated(uncalibrated, domain, 0.0, 5000, 7)
    assert found.n_cold > found.n_warm
    assert found.delta >= 0


def test_where_nothing_can_be_measured_nothing_changes(uncalibrated, opened):
    domain = opened(uncalibrated)
    nothing = torch.zeros_like(domain.catalogue.trained)
    untrained = replace(domain, catalogue=replace(domain.catalogue, trained=nothing))
    assert calibrated(uncalibrated, untrained, 0.02, 5000, 7) == (uncalibrated, None)


def test_the_served_model_reads_a_listed_item_as_the_catalogue_reads_one(chain, opened):
    """Its item encoder, which knows no ID and is told nothing of popularity, gives the row the catalogue would have."""
    served, model = ServedModel(chain.folder("models/served")), load_model(chain.folder("models/served"))
    assert model.spec.newcomer
    domain = opened(model)
    unknown = replace(domain.catalogue, trained=torch.zeros_like(domain.catalogue.trained))
    expected = model.item_vectors("t", unknown)[1:].detach().numpy()
    features = np.full((domain.data.n_items, len(served.item_features)), 9.0, dtype=np.float32)
    text = domain.catalogue.content["text"][1:].numpy()
    found = served.encode_items(text, domain.data.item_attributes[1:], features, {})
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_served_model_keeps_the_same_places(chain, data):
    served = ServedModel(chain.folder("models/served"))
    popularity = served.catalogue.popularity.copy()
    popularity[::2] = 0  # as if nobody had taken these
    served._grown, served.kept_places = replace(served.catalogue, popularity=popularity), 4
    holdout = data.holdout("test")
    seen, users = [holdout.history(row)[0].tolist() for row in range(20)], holdout.user_index[:20]
    asked = (seen, data.profile_features[users], [data.user_attributes[user] for user in users])
    items, _ = served.recommend(*asked, seen, 8)
    assert not served.is_new[items[:, :4]].any()
    assert served.is_new[items[:, 4:]].any()
    assert items.tolist() == best_unseen(lifted(served.scores(*asked), served.is_new, seen, 4), seen, 8).tolist()
    assert served.golden_ok()
