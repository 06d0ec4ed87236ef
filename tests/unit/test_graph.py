"""dvc.yaml as stages and edges."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.graph import different_stages, load_graph, split_address

CHECKOUT = Path(__file__).resolve().parents[2]


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "dvc.yaml"
    path.write_text(text)
    return path


def test_edges_follow_from_outputs(tmp_path):
    graph = load_graph(
        written(
            tmp_path,
            "stages:\n"
            "  a: {cmd: x, deps: [pipeline/data], outs: [data/a]}\n"
            "  b: {foreach: '${targets}', do: {cmd: y, deps: [data/a], outs: ['models/b/${item}']}}\n"
            "  c: {foreach: '${targets}', do: {cmd: z, deps: [data/a, 'models/b/${item}'], outs: ['c/${item}']}}\n",
        )
    )
    assert graph.addresses(["t", "u"]) == {
        "a": (), "b@t": ("a",), "b@u": ("a",), "c@t": ("a", "b@t"), "c@u": ("a", "b@u"),
    }  # fmt: skip
    assert graph.stages["a"].code == ("pipeline/data",)
    assert graph.stages["a"].data == ()


def test_a_stage_above_what_it_reads_is_refused(tmp_path):
    text = "stages:\n  b: {cmd: y, deps: [data/a], outs: [data/b]}\n  a: {cmd: x, outs: [data/a]}\n"
    with pytest.raises(ValueError, match="stage b reads what a writes"):
        load_graph(written(tmp_path, text))


def test_a_foreach_over_something_else_is_refused(tmp_path):
    with pytest.raises(ValueError, match="foreach"):
        load_graph(written(tmp_path, "stages:\n  a: {foreach: [x, y], do: {cmd: x}}\n"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("deps: [data/snapshot]", "deps: [data/snapshot]"), []),
        (("timeout: 6h", "timeout: 7h"), ["pretrain"]),
        (("outs: [models/backbone]", "outs: [models/trunk]"), ["augment", "transfer", "evaluate"]),
        (("  validate:", "  check:"), ["validate", "features", "check"]),
    ],
)
def test_differences_are_named(tmp_path, change, expected):
    text = (CHECKOUT / "dvc.yaml").read_text()
    other = load_graph(written(tmp_path, text.replace(*change)))
    assert different_stages(load_graph(CHECKOUT / "dvc.yaml"), other) == expected


def test_addresses_are_taken_apart():
    assert split_address("transfer@harbour") == ("transfer", "harbour")
    assert split_address("pretrain") == ("pretrain", None)


def test_every_import_of_a_stage_is_a_dependency_of_it():
    """A change of code reruns the stages it is part of: what a stage imports is among its `deps`."""
    import ast

    # the contract, the wrapper around the function and the settings change how a stage is run, not what it makes
    around = ("pipeline.runs", "pipeline.exit_codes", "pipeline.settings", "pipeline.graph")
    for stage in load_graph(CHECKOUT / "dvc.yaml").stages.values():
        allowed = [path.removesuffix(".py").replace("/", ".") for path in stage.code]
        seen, queue = set(), [f"pipeline.stages.{stage.name}"]
        while queue:
            module = queue.pop()
            file = CHECKOUT / (module.replace(".", "/") + ".py")
            if module in seen or not file.exists() or module.startswith(around):
                continue
            seen.add(module)
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("pipeline"):
                    queue += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        missing = [m for m in sorted(seen) if not any(m == a or m.startswith(f"{a}.") for a in allowed)]
        assert not missing, f"{stage.name} imports {missing}, which dvc.yaml does not list under its deps"


def test_every_code_dependency_is_there():
    for stage in load_graph(CHECKOUT / "dvc.yaml").stages.values():
        gone = [path for path in stage.code if not (CHECKOUT / path).exists()]
        assert not gone, f"dvc.yaml lists {gone} under the deps of {stage.name}"
