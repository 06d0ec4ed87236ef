"""Writing the graphs of `pipeline.compression.served_graph` as ONNX files."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.onnx.errors import OnnxExporterError

from pipeline.compression.coded_rows import CodedGraph
from pipeline.compression.masks import stored_sparsely
from pipeline.compression.packed_rows import CODES, FLOAT32, INT8
from pipeline.compression.quantised import PackedGraph, with_int8_linears, with_int8_weights
from pipeline.compression.served_graph import ASKED, BLOCKED, OUTPUTS, VECTOR, NewItems, ServedGraph
from pipeline.data.sequences import Array
from pipeline.exit_codes import BadConfiguration
from pipeline.models.recommender import SequentialRecommender
from pipeline.training.domains import Domain

OPSET = 18


def export_onnx(
    model: SequentialRecommender,
    domain: Domain,
    top_k: int,
    path: Path,
    rows: str = FLOAT32,
    scores: str = FLOAT32,
    linears: str = FLOAT32,
    metadata: Mapping[str, str] | None = None,
    sparse: bool = False,
) -> ServedGraph:
    """Write the graph that ranks.

    Args:
        top_k: most items of an answer.
        rows: of the catalogue: float32, int8, int4 or codes.
        scores: float32, or int8 where rows are not float32.
        linears: of the trunk: float32, int8 or int8_weights.
        metadata: written into the file.
        sparse: weights that are mostly zeros are kept as places and values (`pipeline.compression.masks`).

    Raises:
        BadConfiguration: the model reads more of a history than its items.

    Returns:
        the same in torch, to compare with; its linear layers are in float32 in any case.
    """
    if model.spec.reads_moments:
        raise BadConfiguration(
            "the model reads times or events of a history (pretrain.relative_time, pretrain.events), which a served "
            "graph is not asked with; serve a student of it, which reads items alone"
        )
    graph: ServedGraph
    if rows == FLOAT32:
        graph = ServedGraph(model, domain, top_k)
    elif rows == CODES:
        graph = CodedGraph(model, domain, top_k, scores == INT8)
    else:
        graph = PackedGraph(model, domain, top_k, scores == INT8, rows)
    graph = graph.cpu().eval()
    spec = model.spec
    history = torch.zeros(2, min(3, spec.max_length), dtype=torch.int64)
    history[:, -1] = 1
    example = (
        history,
        torch.zeros(2, len(spec.profile_features)),
        torch.zeros(2, 2, dtype=torch.int64),
        torch.zeros(2, 2, dtype=torch.int64),
        *graph.catalogue.values(),
        *graph.constants.values(),
        torch.zeros(2, 1, dtype=torch.bool),
    )
    inputs = (*ASKED, *graph.catalogue, *graph.constants, BLOCKED)
    axes = {name: {0: "batch"} for name in (*inputs, *OUTPUTS)}
    axes["history"][1], axes["profile_attributes"][1], axes["seen"][1] = "length", "attributes", "seen"
    # axes of one name are of one length: a runtime counts on it
    axes |= {name: {0: "items" if name == "vectors" else name} for name in graph.catalogue}
    axes[BLOCKED] = {0: "batch or 1", 1: "items or 1"}
    axes["all_scores"][1] = "items"
    defaults = {name: value.numpy() for name, value in graph.catalogue.items()}
    defaults[BLOCKED] = np.zeros((1, 1), dtype=bool)
    traced = _traced(graph, example, inputs, OUTPUTS, axes)
    _fix(traced, graph.constants)
    if linears != FLOAT32:
        traced = with_int8_linears(traced) if linears == INT8 else with_int8_weights(traced)
    _write(stored_sparsely(traced) if sparse else traced, path, defaults, metadata or {})
    return graph


def export_item_encoder(model: SequentialRecommender, path: Path) -> NewItems:
    """Write the graph that encodes new items; returns the same in torch."""
    graph, spec = NewItems(model).cpu().eval(), model.spec
    example = [torch.ones(2, width) for _, width in spec.modalities]
    example.append(torch.ones(2, 2, dtype=torch.int64))
    names = [*(name + VECTOR for name, _ in spec.modalities), "attributes"]
    if graph.has_features:
        example.append(torch.zeros(2, len(spec.item_features)))
        names.append("features")
    axes = {name: {0: "items"} for name in (*names, "vectors")}
    axes["attributes"][1] = "attributes"
    _write(_traced(graph, tuple(example), names, ["vectors"], axes), path, {}, {})
    return graph


def _traced(
    graph: nn.Module,
    example: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
) -> onnx.ModelProto:
    written = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter by tracing needs no further package, and these graphs have no data-dependent control flow.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                graph,
                example,
                written,  # type: ignore[arg-type]  # tracing takes a file, the types know only paths
                dynamo=False,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes=axes,
            )
        except OnnxExporterError as error:
            raise BadConfiguration(
                f"the model has an operator that ONNX (opset {OPSET}) does not know ({error}); leave out the part of "
                "the model that needs it"
            ) from error
    return onnx.load_model_from_string(written.getvalue())


def _fix(model: onnx.ModelProto, constants: Mapping[str, Tensor]) -> None:
    """Make constants of what was traced as inputs: what hangs on them alone is then computed once, at loading."""
    asked = [given for given in model.graph.input if given.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(asked)
    model.graph.initializer.extend(numpy_helper.from_array(value.numpy(), name) for name, value in constants.items())


def _shorten(graph: onnx.GraphProto) -> None:
    """Numbers for the names of what stands in between, which the exporter gives whole paths."""
    kept = {one.name for one in (*graph.input, *graph.output, *graph.initializer)}
    kept |= {one.values.name for one in graph.sparse_initializer}
    short: dict[str, str] = {"": ""}  # an input that is left out
    for node in graph.node:
        node.name = ""
        for names in (node.input, node.output):
            names[:] = [name if name in kept else short.setdefault(name, f"_{len(short)}") for name in names]


def _write(model: onnx.ModelProto, path: Path, defaults: Mapping[str, Array], metadata: Mapping[str, str]) -> None:
    del model.graph.value_info[:]  # shapes in between: kilobytes of a small file, and every runtime finds them again
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in defaults.items())
    _shorten(model.graph)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
