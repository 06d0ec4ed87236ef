"""What the tests kill: registering and promoting in a child process that ends itself with SIGKILL at one of its steps.

Children come from a fork server that has imported MLflow once, so that a kill costs a tenth of a second and no child
shares a connection with another.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pipeline.evaluation.verdict import Verdict
from pipeline.registry import promotion, registration
from pipeline.registry.mlflow_rest import MlflowRest
from pipeline.registry.promotion import promote_if, roll_back
from pipeline.registry.registration import Registration, register_version
from pipeline.runs.tracking import client, experiment_id
from pipeline.settings import settings

CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["tests.registry.killed", "mlflow.onnx", "onnx", "mlflow.tracking"])
REGISTER_STEPS = (
    "model made", "logged model made", "files uploaded", "logged model ready", "card uploaded", "version made",
)  # fmt: skip
PROMOTE_STEPS = ("judged", "champion read", "decision logged", "version marked", "alias moved")


def register(folder: str, target: str, run_id: str) -> int:
    """Register the served model in `folder`; returns the version."""
    rest = MlflowRest(settings().mlflow_uri)
    wanted = Registration(
        target, run_id, Path(folder), {"model_card.md": b"# card\n"}, {"warmstart.as_of": ""}, "# card\n"
    )
    mlflow = client()
    return register_version(mlflow, rest, wanted, experiment_id(rest)).version


def decide(target: str, version: int, run_id: str) -> None:
    """Promote a version on a verdict that always says so."""
    rest = MlflowRest(settings().mlflow_uri)
    promote_if(rest, target, version, lambda champion: Verdict("promote", ["better"], champion=champion), run_id)


def compete(target: str, qualities: dict[int, float], own: int) -> None:
    """Promote version `own` if it is better than the champion; the truth is known, judging takes a moment."""
    rest = MlflowRest(settings().mlflow_uri)

    def judge(champion: int | None) -> Verdict:
        time.sleep(0.02)
        better = champion is None or qualities[own] > qualities[champion]
        return Verdict("promote" if better else "hold", ["by its quality"], champion=champion)

    promote_if(rest, target, own, judge, f"run-{own}")


def smallest_model(folder: Path) -> Path:
    """A folder as `prune` writes it, with the smallest graph there is."""
    import onnx
    from onnx import TensorProto, helper

    folder.mkdir(parents=True, exist_ok=True)
    history = helper.make_tensor_value_info("history", TensorProto.INT64, [1])
    items = helper.make_tensor_value_info("items", TensorProto.INT64, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["history"], ["items"])], "nothing", [history], [items])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), folder / "model.onnx")
    return folder


def take_back(target: str, reason: str) -> None:
    """Roll back."""
    roll_back(MlflowRest(settings().mlflow_uri), target, "user ann", reason)


def start(work: Callable[..., Any], *words: Any, kill_at: str | None = None) -> BaseProcess:
    """Start `work` in a child that ends itself with SIGKILL where `kill_at` was passed."""
    child = CHILDREN.Process(target=_child, args=(dict(os.environ), kill_at, work, words))
    child.start()
    return child


def run(work: Callable[..., Any], *words: Any, kill_at: str | None = None) -> int | None:
    """`start`, and wait; returns the exit code, -9 when it was killed."""
    child = start(work, *words, kill_at=kill_at)
    child.join(120)
    return child.exitcode


def _child(environment: dict[str, str], kill_at: str | None, work: Callable[..., Any], words: tuple[Any, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)  # the fork server was started with that of another moment
    settings.cache_clear()

    def passed(step: str) -> None:
        if step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    promotion.passed = registration.passed = passed
    work(*words)
