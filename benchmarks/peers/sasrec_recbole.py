"""RecBole's SASRec under watch: python sasrec_recbole.py SPLIT FOLDER SETTING LIMIT (its own environment).

Its defaults (cross-entropy over all items, Adam, inner size 4 × width) but for what the setting names. RecBole makes a
sample of every prefix: a batch here holds as many targets as the others' batches of whole histories.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.data.interaction import Interaction
from recbole.model.sequential_recommender.sasrec import SASRec
from recbole.trainer import Trainer
from recbole.utils import init_logger, init_seed
from watch import LISTED, Split, Watch

BLOCK = 512  # users ranked at a time


def main() -> None:
    """Train until the watch says stop."""
    split, folder = Split.read(Path(sys.argv[1])), Path(sys.argv[2])
    setting, limit = json.loads(sys.argv[3]), float(sys.argv[4])
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", FutureWarning)
    write_rows(split, folder / "data" / "shop")
    config = Config(
        model="SASRec",
        dataset="shop",
        config_dict={
            "data_path": str(folder / "data"),
            "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
            "MAX_ITEM_LIST_LENGTH": setting["length"],
            "n_layers": setting["layers"],
            "n_heads": setting["heads"],
            "hidden_size": setting["width"],
            "inner_size": 4 * setting["width"],
            "hidden_dropout_prob": setting["dropout"],
            "attn_dropout_prob": setting["dropout"],
            "learning_rate": setting["learning_rate"],
            "train_batch_size": round(setting["batch_users"] * split.targets_per_user),
            "train_neg_sample_args": None,  # cross-entropy over all items
            "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
            "seed": setting["seed"],
            "device": "cpu",
            "use_gpu": False,
            "show_progress": False,
            "checkpoint_dir": str(folder / "checkpoints"),
        },
    )
    init_seed(config["seed"], config["reproducibility"])
    init_logger(config)
    watch = Watch(split, folder, limit, setting["patience"])
    dataset = create_dataset(config)
    train_data, _, _ = data_preparation(config, dataset)
    model = SASRec(config, train_data.dataset)
    trainer = Trainer(config, model)
    own = np.zeros(split.n_items + 1, dtype=np.int64)  # our item index to RecBole's, 0 where it never saw one
    for name, number in dataset.field2token_id["item_id"].items():
        if name != "[PAD]":
            own[int(name)] = number
    for epoch in range(setting["epochs"]):
        trainer._train_epoch(train_data, epoch, show_progress=False)
        if watch.epoch_ends(lambda part: recommend(model, split, own, part)):
            break


def write_rows(split: Split, folder: Path) -> None:
    """The shop as RecBole's atomic file."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{user}\t{item}\t{place}\n" for user, item, place in zip(*split.rows(held=True), strict=True))
    (folder / "shop.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + rows)


@torch.inference_mode()
def recommend(model: SASRec, split: Split, own: np.ndarray, part: str) -> np.ndarray:
    """Our indices of the best unseen items of everybody, by RecBole's own full-ranking scores."""
    model.eval()
    known = np.flatnonzero(own)
    ours = np.zeros(model.n_items, dtype=np.int64)
    ours[own[known]] = known
    found = []
    n_users = len(split.offsets) - 1
    for start in range(0, n_users, BLOCK):
        histories = [own[split.history(user, part)] for user in range(start, min(start + BLOCK, n_users))]
        length = model.max_seq_length
        read = np.zeros((len(histories), length), dtype=np.int64)
        for row, history in enumerate(histories):
            read[row, : min(len(history), length)] = history[-length:]  # RecBole pads on the right
        lengths = torch.tensor([min(len(history), length) for history in histories])
        asked = Interaction({"item_id_list": torch.from_numpy(read), "item_length": lengths})
        scores = model.full_sort_predict(asked)
        scores[:, 0] = -torch.inf
        for row, history in enumerate(histories):
            scores[row, torch.from_numpy(history)] = -torch.inf
        found.append(ours[scores.topk(LISTED).indices.numpy()])
    return np.concatenate(found)


if __name__ == "__main__":
    main()
