"""RecTools' SASRec under watch: python sasrec_rectools.py SPLIT FOLDER SETTING LIMIT (its own environment).

Its defaults (softmax over all items, Adam) but for what the setting names.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from watch import LISTED, Split, Watch

FIRST_DAY = pd.Timestamp("2020-01-01")


def main() -> None:
    """Train until the watch says stop."""
    split, folder = Split.read(Path(sys.argv[1])), Path(sys.argv[2])
    setting, limit = json.loads(sys.argv[3]), float(sys.argv[4])
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of pandas and Lightning, at every epoch
    seed_everything(setting["seed"])
    training, whole = dataset(split, held=False), dataset(split, held=True)
    watch = Watch(split, folder, limit, setting["patience"])
    ends = EpochEnds(watch, {"validation": training, "test": whole})
    model = SASRecModel(
        n_blocks=setting["layers"],
        n_heads=setting["heads"],
        n_factors=setting["width"],
        dropout_rate=setting["dropout"],
        session_max_len=setting["length"],
        lr=setting["learning_rate"],
        batch_size=setting["batch_users"],
        get_trainer_func=lambda: Trainer(
            accelerator="cpu",
            max_epochs=setting["epochs"],
            callbacks=[ends],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ),
        recommend_torch_device="cpu",
    )
    ends.model = model
    model.fit(training)


def dataset(split: Split, held: bool) -> Dataset:
    """The training interactions; with `held` the validation items too, which come before the test items."""
    users, items, places = split.rows(held=False)
    if held:
        lengths = np.diff(split.offsets)
        users = np.concatenate([users, np.arange(len(lengths))])
        items, places = np.concatenate([items, split.validation]), np.concatenate([places, lengths])
    return Dataset.construct(
        pd.DataFrame(
            {
                Columns.User: users,
                Columns.Item: items,
                Columns.Weight: 1.0,
                Columns.Datetime: FIRST_DAY + pd.to_timedelta(places, unit="D"),
            }
        )
    )


class EpochEnds(Callback):
    """Asks the watch after each epoch."""

    model: SASRecModel

    def __init__(self, watch: Watch, histories: dict[str, Dataset]) -> None:
        self.watch, self.histories = watch, histories

    def __deepcopy__(self, memo: Any) -> EpochEnds:
        return self  # RecTools fits a copy of its trainer; there is one watch

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Lightning's word for it."""
        self.model.is_fitted = True  # or it would not recommend
        trainer.should_stop = self.watch.epoch_ends(self.recommend)
        pl_module.train()

    def recommend(self, part: str) -> np.ndarray:
        """Its own recommendations, 0 where there are fewer."""
        users = np.arange(len(self.watch.split.offsets) - 1)
        told = self.model.recommend(users=users, dataset=self.histories[part], k=LISTED, filter_viewed=True)
        lists = np.zeros((len(users), LISTED), dtype=np.int64)
        lists[told[Columns.User], told[Columns.Rank] - 1] = told[Columns.Item]
        return lists


if __name__ == "__main__":
    main()
