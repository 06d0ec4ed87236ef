"""Served folders made in a second, with weights drawn and not learned; and a registry that hands them out.

What is served is real: exported graphs, a real promotion log in a real PostgreSQL. MLflow is a server of forty lines,
which can be stopped, and whose downloads are the service's cache.
"""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import polars as pl

from pipeline.features.encoders import Encoder, Hashing
from pipeline.features.model_inputs import ITEM_FEATURES, OWN_FEATURES
from pipeline.registry.champion import AS_OF_TAG, CONTENT_TAG, RUN_TAG, content_digest, model_name
from pipeline.registry.promotion_log import Entry, append, head, log_connection, promotion_lock
from tests.training_data import WIDTH, write_training_set

TARGET = "t"
PROJECT = "handmade"


def served_folder(
    root: Path,
    seed: int = 1,
    target: str = TARGET,
    items: int = 24,
    top_k: int = 20,
    width: int = 16,
    encoder: Encoder | None = None,
) -> Path:
    """A served folder under `root`, with the items of `training_data`: `<target>-1`, …

    Args:
        encoder: of the items' texts; None hashes them.
    """
    import torch

    from pipeline.compression.catalogue import write_catalogue
    from pipeline.compression.export import export_item_encoder, export_onnx
    from pipeline.compression.golden import golden_request
    from pipeline.compression.new_items import ITEM_ENCODER
    from pipeline.data.training_set import load_domain
    from pipeline.features.whitening import WHITENING, fit_whitening, write_whitening
    from pipeline.models.recommender import SequentialRecommender
    from pipeline.models.spec import ModelSpec, uniform_layers
    from pipeline.stages.prune import what_a_server_knows
    from pipeline.training.domains import open_domain
    from pipeline.training.weights import save_model

    encoder = encoder or Hashing()
    data_folder = root / f"data-{target}-{items}"
    if not data_folder.exists():
        write_training_set(data_folder, {"a": ["source"], target: ["target"]}, items=items)
        for domain in ("a", target):
            _real_features(data_folder / "training" / domain)
        about = json.loads((data_folder / "training" / "dataset.json").read_text())
        about |= {"item_features": ITEM_FEATURES, "profile_features": OWN_FEATURES, "project": PROJECT}
        (data_folder / "training" / "dataset.json").write_text(json.dumps(about))
        texts = pl.read_parquet(data_folder / "training" / target / "items.parquet")["text"].to_list()
        raw = np.zeros((len(texts), encoder.width), dtype=np.float32)
        for places, vectors in encoder.encode(texts):
            raw[places] = vectors.astype("<f2")
        whitening = fit_whitening(raw, WIDTH)
        write_whitening(data_folder / "vectors", whitening)
        np.save(
            data_folder / "vectors" / target / "text.npy",
            np.vstack([np.zeros((1, WIDTH)), whitening(raw)]).astype(np.float32),
        )
        (data_folder / "vectors" / "vectors.json").write_text(
            json.dumps({"encoder": encoder.identity, "modalities": {"text": WIDTH}})
        )
    out = root / f"served-{target}-{seed}-{items}-{top_k}-{width}"
    if out.exists():
        return out
    torch.manual_seed(seed)
    data = load_domain(data_folder / "training", target)
    spec = ModelSpec(
        width=width, head_width=width // 2, layers=uniform_layers(1, 2, width), max_length=50, id_width=4,
        attribute_buckets=64, profile_buckets=16, modalities=(("text", WIDTH),), item_features=tuple(ITEM_FEATURES),
        profile_features=OWN_FEATURES, domains=((target, data.n_items),),
    )  # fmt: skip
    model = SequentialRecommender(spec).eval()
    domain = open_domain(data, data_folder / "vectors", spec, torch.device("cpu"))
    out.mkdir(parents=True)
    graph = export_onnx(model, domain, top_k, out / "model.onnx")
    export_item_encoder(model, out / ITEM_ENCODER)
    popularity = np.bincount(np.asarray(data.items), minlength=data.n_items + 1)
    write_catalogue(out, data.item_ids, data.item_attributes, popularity, graph.vectors.numpy())
    shutil.copyfile(data_folder / "vectors" / WHITENING, out / WHITENING)
    about = {
        "served": {"domain": target, "n_items": data.n_items, "top_k": graph.top_k, "parameters": graph.n_numbers},
        "serving": what_a_server_knows(data_folder / "training", data_folder / "vectors"),
        "golden": golden_request(graph, data, spec.max_length),
    }
    save_model(out, model, about)
    return out


def _real_features(folder: Path) -> None:
    items = pl.read_parquet(folder / "items.parquet").drop("popularity", "novelty")
    items.with_columns(pl.lit(0.0, pl.Float32).alias(name) for name in ITEM_FEATURES).write_parquet(
        folder / "items.parquet"
    )
    users = pl.read_parquet(folder / "users.parquet").drop("age", "visits")
    users.with_columns(pl.lit(0.0, pl.Float32).alias(name) for name in OWN_FEATURES).write_parquet(
        folder / "users.parquet"
    )


@dataclass
class FakeRegistry:
    """What the service asks of MLflow, and the promotion log.

    Attributes:
        home: of the service.
        address: of the server.
    """

    home: Path
    address: str = ""
    _versions: dict[tuple[str, int], str] = field(default_factory=dict)

    def add(self, served: Path, version: int, target: str = TARGET) -> None:
        """A version whose files are in the service's cache already."""
        content = content_digest(served)
        shutil.copytree(served, self.home / "cache" / "served" / content, dirs_exist_ok=True)
        self._versions[model_name(target), version] = content

    def add_broken(self, version: int, target: str = TARGET) -> None:
        """A version that does not load."""
        content = f"{version:064d}"
        (self.home / "cache" / "served" / content).mkdir(parents=True)
        self._versions[model_name(target), version] = content

    def promote(self, version: int, target: str = TARGET) -> None:
        """Move the champion, in the log."""
        with promotion_lock(target) as connection:
            before = head(connection, target)
            champion = before.to_version if before else None
            now = datetime.now(UTC)
            append(connection, Entry(target, now, "user test", "promote", "test", None, champion, version, None))

    def answer(self, path: str) -> tuple[int, dict]:
        """MLflow's REST API, the two calls."""
        parts = urlsplit(path)
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        number = int(asked.get("version", max([v for _, v in self._versions], default=0)))
        content = self._versions.get((asked.get("name", ""), number))
        if content is None:
            return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "not found"}
        tags = {CONTENT_TAG: content, RUN_TAG: f"run-{number}", AS_OF_TAG: "2026-01-01T00:00:00Z"}
        told = [{"key": key, "value": value} for key, value in tags.items()]
        return 200, {"model_version": {"name": asked["name"], "version": str(number), "source": "", "tags": told}}


@contextmanager
def fake_mlflow(registry: FakeRegistry, port: int = 0) -> Iterator[FakeRegistry]:
    """Serve a registry's answers while the body runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, answer = registry.answer(self.path)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    registry.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()


def clear_log() -> None:
    """Forget every champion; only a superuser can, and only like this."""
    with log_connection() as connection:
        connection.execute("alter table promotions disable trigger all")
        connection.execute("delete from promotions")
        connection.execute("alter table promotions enable trigger all")
