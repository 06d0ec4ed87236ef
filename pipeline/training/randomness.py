"""Randomness without state: every epoch and every step draws from the seed and its own number.

So a training that was killed continues exactly as if it had not been: nothing but the step has to be remembered.
"""

from __future__ import annotations

import hashlib
import os

import numpy as np
import torch

WIDE = 256  # models from this width on use every thread they are given


def derived_seed(seed: int, *names: int | str) -> int:
    """A 63-bit seed for one purpose, e.g. `derived_seed(7, "step", 120)`."""
    text = repr((seed, *names)).encode("utf-8")
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def generator(seed: int, *names: int | str) -> np.random.Generator:
    """Numpy's generator for one purpose."""
    return np.random.default_rng(derived_seed(seed, *names))


def seed_torch(seed: int, *names: int | str) -> None:
    """Seed torch (all devices) for one purpose."""
    torch.manual_seed(derived_seed(seed, *names))


def make_deterministic(threads: int, width: int) -> torch.device:
    """Fix the thread count and the algorithms; return the device to train on (CUDA where there is one).

    The matrices of a narrow model are too small for a second thread: on two busy cores it made the pretraining of the
    default world fifteen times slower. One thread also gives the same bits on every machine. On CUDA a few backward
    passes have no deterministic kernel; there they are allowed, with torch's warning.

    Args:
        threads: that the stage may use.
        width: of the model.
    """
    torch.set_num_threads(max(1, threads) if width >= WIDE else 1)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nobody reads it
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))  # torchrun: a GPU for each process
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
        return torch.device("cuda")
    torch.use_deterministic_algorithms(True)
    return torch.device("cpu")
