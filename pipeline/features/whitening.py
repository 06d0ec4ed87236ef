"""PCA-whitening with shrinkage: language-model vectors crowd into a narrow cone; this spreads them out.

Whitened text vectors rank better in sequential recommendation (Zhang et al., arXiv 2402.10602). The covariance is
shrunk towards a sphere (Ledoit and Wolf 2004), so that a handful of items does not make its noise the size of its
signal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
WHITENING = "whitening.safetensors"


@dataclass(frozen=True)
class Whitening:
    """An affine map to uncorrelated coordinates.

    Attributes:
        mean: float32 [width_in].
        components: float32 [width_in, width_out]; columns beyond the rank of the data are zero.
    """

    mean: Floats
    components: Floats

    def __call__(self, vectors: Floats) -> Floats:
        """float32 [n, width_in] -> [n, width_out], variance about 1 in every coordinate, less where the data is few."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            return ((vectors - self.mean) @ self.components).astype(np.float32)


def fit_whitening(vectors: Floats, width: int) -> Whitening:
    """Whiten to the `width` widest directions of `vectors`.

    Fewer than `width` + 1 vectors span fewer directions: the rest of the coordinates is zero. The result is the
    same for every number of threads and with every sign an eigenvector may come out with.

    Args:
        vectors: float32 [n, width_in].
        width: width_out.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage
    from threadpoolctl import threadpool_limits

    n, width_in = vectors.shape
    components = np.zeros((width_in, width), dtype=np.float32)
    if n < 2:
        mean = vectors.mean(axis=0) if n else np.zeros(width_in, np.float32)
        return Whitening(mean.astype(np.float32), components)
    with threadpool_limits(1):  # the order of additions depends on the number of threads
        centre = vectors.mean(axis=0, dtype=np.float64)
        centred = vectors - centre
        covariance = centred.T @ centred / n
        shrinkage = float(ledoit_wolf_shrinkage(centred, assume_centered=True))
        variances, directions = np.linalg.eigh(covariance)
    rank = int((variances > variances.max() * 1e-6).sum()) if variances.max() > 0 else 0
    kept = min(width, rank)
    order = np.argsort(variances)[::-1][:kept]
    widest = directions[:, order]  # (width_in, kept)
    signs = np.sign(widest[np.abs(widest).argmax(axis=0), np.arange(kept)])
    shrunk = (1 - shrinkage) * variances[order] + shrinkage * variances.mean()
    components[:, :kept] = widest * signs / np.sqrt(shrunk)
    return Whitening(centre.astype(np.float32), components)


def write_whitening(folder: Path, whitening: Whitening) -> None:
    """Write `whitening.safetensors`, with which a text that comes later is whitened alike."""
    from safetensors.numpy import save_file

    parts = {"mean": whitening.mean, "components": np.ascontiguousarray(whitening.components)}
    save_file(parts, folder / WHITENING)


def read_whitening(folder: Path) -> Whitening:
    """The inverse of `write_whitening`."""
    from safetensors.numpy import load_file

    return Whitening(**load_file(folder / WHITENING))
