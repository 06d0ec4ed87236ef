"""`warmstart experiment transfer`: does what was learned elsewhere help a target, and how is it best brought there?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Experiments beside the nightly run: many arms, one answer.")


@app.callback()
def experiment() -> None:
    """Experiments beside the nightly run: many arms, one answer."""


@app.command()
def transfer(
    target: Annotated[str, typer.Option(help="domain of the training set")],
    root: Annotated[
        Path,
        typer.Option(help="a run's workspace or a checkout, with data/training, data/item_vectors, models/backbone"),
    ] = Path(),
    shares: Annotated[str, typer.Option(help="of the target's users, separated by commas")] = "0.01,0.1,1",
    seeds: Annotated[str, typer.Option(help="separated by commas")] = "1,2,3",
    arms: Annotated[str, typer.Option(help="separated by commas; without it all")] = "",
    supports: Annotated[
        str, typer.Option(help="histories are cut to so many interactions; others than before need another --out")
    ] = "0,1,5,10",
    overrides: Annotated[list[str] | None, typer.Option("--set", help="transfer.NAME=value, several by spaces")] = None,
    out: Annotated[str, typer.Option(help="folder; without it $WARMSTART_HOME/experiments/transfer/TARGET")] = "",
) -> None:
    """Arms × shares × seeds on one target: table.json and report.html. Stopped, it goes on where it was."""
    import logging

    from pipeline.exit_codes import BadConfiguration
    from pipeline.runs.attempt import write_json
    from pipeline.runs.parameters import apply_overrides, read_params
    from pipeline.settings import CHECKOUT, settings
    from pipeline.transfer.experiment import NAMES, Experiment
    from pipeline.transfer.outcome import PICKED, page, sentence, table, with_picked
    from pipeline.transfer.params import TransferParams
    from pipeline.transfer.states import states_table

    logging.basicConfig(level="INFO", format="%(message)s")
    names = {"data/training": root / "data/training", "data/item_vectors": root / "data/item_vectors"}
    inputs = names | {"models/backbone": root / "models/backbone"}
    if absent := [name for name, path in inputs.items() if not path.is_dir()]:
        raise BadConfiguration(
            f"--root {root} has no {', no '.join(absent)}; give a run's workspace, or run `dvc repro pretrain` there"
        )
    wanted = tuple(name.strip() for name in arms.split(",") if name.strip()) or NAMES
    if unknown := [name for name in wanted if name not in NAMES]:
        raise BadConfiguration(f"--arms names {', '.join(unknown)}; there are {', '.join(NAMES)}")
    given = [word for text in overrides or [] for word in text.split()]
    own = root / "params.yaml"
    params = apply_overrides(read_params(own if own.exists() else CHECKOUT / "params.yaml"), given)
    chosen = TransferParams.model_validate({**params["transfer"], "seed": params["seed"]})
    folder = Path(out) if out else settings().home / "experiments" / "transfer" / target
    folder.mkdir(parents=True, exist_ok=True)
    cuts = tuple(dict.fromkeys(int(k) for k in _numbers(supports)))
    if any(k < 0 for k in cuts):
        raise BadConfiguration(f"--supports is {supports!r}; a history has no fewer than 0 interactions")
    tried = Experiment(inputs, target, chosen, folder, wanted, supports=cuts)
    outcomes = with_picked(tried.run(_numbers(shares), [int(seed) for seed in _numbers(seeds)]))
    rows = table(outcomes)
    write_json(folder / "table.json", rows)
    (folder / "report.html").write_text(page(target, outcomes, rows, states_table(outcomes, PICKED)), "utf-8")
    for share in sorted({row["share"] for row in rows}):
        typer.echo(sentence(outcomes, rows, share))
    typer.echo(f"written to {folder / 'report.html'}")


@app.command()
def suggest(
    target: Annotated[str, typer.Option(help="domain of the training set")],
    root: Annotated[
        Path, typer.Option(help="a run's workspace or a checkout, with data/training and data/item_vectors")
    ] = Path(),
    backbone: Annotated[
        list[Path] | None, typer.Option(help="a folder of one; several times. Without it models/backbone of the root")
    ] = None,
    arms: Annotated[str, typer.Option(help="separated by commas; without it all that transfer.arms may name")] = "",
) -> None:
    """Backbones × arms for a target, the most promising first, from what earlier runs gained. Trains nothing."""
    import torch

    from pipeline.data.training_set import load_domain
    from pipeline.exit_codes import BadConfiguration
    from pipeline.registry.mlflow_rest import MlflowRest
    from pipeline.runs.parameters import read_params
    from pipeline.settings import CHECKOUT, settings
    from pipeline.training.domains import open_domain
    from pipeline.training.randomness import make_deterministic
    from pipeline.training.weights import load_model
    from pipeline.transfer.strategies import STRATEGIES
    from pipeline.transfer.suggestion import Candidate, past_runs
    from pipeline.transfer.suggestion import suggest as ordered
    from pipeline.transfer.transferability import known_before

    wanted = tuple(name.strip() for name in arms.split(",") if name.strip()) or STRATEGIES
    if unknown := [name for name in wanted if name not in STRATEGIES]:
        raise BadConfiguration(f"--arms names {', '.join(unknown)}; there are {', '.join(STRATEGIES)}")
    folders = backbone or [root / "models/backbone"]
    needed = [root / "data/training", root / "data/item_vectors", *folders]
    if absent := [str(path) for path in needed if not path.is_dir()]:
        raise BadConfiguration(f"{', '.join(absent)} is not there; give a run's workspace, or run `dvc repro pretrain`")
    make_deterministic(1, 0)
    params = read_params(CHECKOUT / "params.yaml")
    data = load_domain(root / "data/training", target)
    candidates = []
    for folder in folders:
        model = load_model(folder)
        domain = open_domain(data, root / "data/item_vectors", model.spec, torch.device("cpu"))
        known = known_before(model, domain, params["transfer"]["validation_users"], params["seed"])
        if not known:
            raise BadConfiguration(
                f"{target} has no validation row, or no item of it has a content vector: nothing tells backbones apart"
            )
        sources = "+".join(name for name in model.spec.domain_names if name != target)
        named = f"{sources} ({folder})" if len(folders) > 1 else sources
        candidates += [Candidate(target, named, arm, *known.values()) for arm in wanted]
    past = past_runs(MlflowRest(settings().mlflow_uri))
    typer.echo(
        f"{len(past)} arms of earlier runs\n{'over scratch':>12}  {'LogME':>8}  {'zero-shot':>9}  arm, sources: why"
    )
    for one in ordered(past, candidates):
        gain = "–" if one.gain is None else f"{100 * one.gain:+.1f} %"
        facts = one.candidate
        typer.echo(
            f"{gain:>12}  {facts.logme:>8.4f}  {facts.zero_shot:>9.4f}  {facts.arm}, {facts.backbone}: {one.why}"
        )


def _numbers(text: str) -> list[float]:
    from pipeline.exit_codes import BadConfiguration

    try:
        found = [float(word) for word in text.split(",")]
    except ValueError:
        raise BadConfiguration(f"{text!r} is no list of numbers; separate them by commas, e.g. 0.1,1") from None
    return found
