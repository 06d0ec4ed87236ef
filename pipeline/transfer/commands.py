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
    supports: Annotated[str, typer.Option(help="histories are cut to so many interactions")] = "0,1,5,10",
    meta: Annotated[
        Path | None,
        typer.Option(
            help="a backbone made with pretrain.meta, of the same sources: adds the arm meta, which starts there"
        ),
    ] = None,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="transfer.NAME=value, several by spaces")] = None,
    out: Annotated[str, typer.Option(help="folder; without it $WARMSTART_HOME/experiments/transfer/TARGET")] = "",
) -> None:
    """Arms × shares × seeds on one target: table.json and report.html. Stopped, it goes on where it was."""
    import logging

    from pipeline.exit_codes import BadConfiguration
    from pipeline.runs.attempt import write_json
    from pipeline.settings import settings
    from pipeline.transfer.arguments import arms_of, fine_tuning, numbers_of
    from pipeline.transfer.experiment import Experiment, work_of
    from pipeline.transfer.experiment_arms import META, NAMES, PICKABLE
    from pipeline.transfer.four_states import states_table
    from pipeline.transfer.outcome import PICKED, page, sentence, table, with_picked
    from pipeline.transfer.trial import BACKBONE, META_BACKBONE

    logging.basicConfig(level="INFO", format="%(message)s")
    inputs = {name: root / name for name in ("data/training", "data/item_vectors", BACKBONE)}
    if absent := [name for name, path in inputs.items() if not path.is_dir()]:
        raise BadConfiguration(
            f"--root {root} has no {', no '.join(absent)}; give a run's workspace, or run `dvc repro pretrain` there"
        )
    wanted = arms_of(arms, NAMES)
    if meta is not None:
        if not (meta / "model.json").exists():
            raise BadConfiguration(f"--meta {meta} is no backbone; give models/backbone of a run with pretrain.meta")
        wanted, inputs = (*wanted, META), inputs | {META_BACKBONE: meta}
    if not PICKABLE & set(wanted):
        raise BadConfiguration(
            f"--arms names {arms} alone, which validation does not pick; add scratch, or leave it out"
        )
    fractions = numbers_of(
        "--shares", shares, float, lambda n: 0 < n <= 1, "shares of the users, above 0 up to 1: 0.1,1"
    )
    draws = numbers_of("--seeds", seeds, int, lambda n: n >= 0, "whole numbers: 1,2")
    cuts = numbers_of("--supports", supports, int, lambda n: n >= 0, "numbers of interactions, 0 or more: 0,5")
    chosen = fine_tuning(root, overrides or [])
    folder = Path(out) if out else settings().home / "experiments" / "transfer" / target
    kept = folder / work_of(inputs, target, chosen, cuts)
    tried = Experiment(inputs, target, chosen, kept, wanted, supports=cuts)
    outcomes = with_picked(tried.run(fractions, draws))
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
    arms: Annotated[
        str, typer.Option(help="separated by commas; without it all that transfer.arms may name beside scratch")
    ] = "",
) -> None:
    """Backbones × arms for a target, the most promising first, from what earlier runs gained. Trains nothing."""
    import torch

    from pipeline.data.training_set import load_domain
    from pipeline.exit_codes import BadConfiguration
    from pipeline.registry.mlflow_rest import MlflowRest
    from pipeline.settings import settings
    from pipeline.training.domains import open_domain
    from pipeline.training.randomness import make_deterministic
    from pipeline.training.weights import load_model
    from pipeline.transfer.arguments import arms_of, fine_tuning
    from pipeline.transfer.params import STRATEGIES
    from pipeline.transfer.suggestion import Candidate, past_runs, rank_correlation
    from pipeline.transfer.suggestion import suggest as ordered
    from pipeline.transfer.tasks.params import MULTI_TASK
    from pipeline.transfer.transferability import known_before, unjudged

    wanted = arms_of(arms, (*STRATEGIES, MULTI_TASK))
    folders = backbone or [root / "models/backbone"]
    needed = [root / "data/training", root / "data/item_vectors", *folders]
    if absent := [str(path) for path in needed if not path.is_dir()]:
        raise BadConfiguration(f"{', '.join(absent)} is not there; give a run's workspace, or run `dvc repro pretrain`")
    make_deterministic(1, 0)
    params = fine_tuning(root)
    data = load_domain(root / "data/training", target)
    candidates = []
    for folder in folders:
        model = load_model(folder)
        domain = open_domain(data, root / "data/item_vectors", model.spec, torch.device("cpu"))
        if reason := unjudged(domain):
            raise BadConfiguration(reason)
        known = known_before(model, domain, params.validation_users, params.seed)
        sources = "+".join(name for name in model.spec.domain_names if name != target)
        named = f"{sources} ({folder})" if len(folders) > 1 else sources
        candidates += [Candidate(target, named, arm, *known.values()) for arm in wanted]
    past = past_runs(MlflowRest(settings().mlflow_uri))
    worth = rank_correlation(past)
    told = (
        ""
        if worth is None
        else f"; told from other targets, the order of a target's has a rank correlation of {worth:.2f}"
    )
    typer.echo(f"{len(past)} arms of earlier runs{told}")
    typer.echo(f"{'over scratch':>12}  {'LogME':>8}  {'zero-shot':>9}  arm, sources: why")
    for one in ordered(past, candidates):
        gain = "–" if one.gain is None else f"{100 * one.gain:+.1f} %"
        facts = one.candidate
        typer.echo(
            f"{gain:>12}  {facts.logme:>8.4f}  {facts.zero_shot:>9.4f}  {facts.arm}, {facts.backbone}: {one.why}"
        )
