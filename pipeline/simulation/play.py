"""`warmstart simulate`: a first night, then days with a night after each; where it was killed it goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data.feedback import write_whole
from pipeline.data.world.params import END, SIZES
from pipeline.exit_codes import BadConfiguration
from pipeline.settings import Settings
from pipeline.simulation.arrivals import Newcomers, newcomers
from pipeline.simulation.champions import refuse_used_home, without_champion
from pipeline.simulation.day import date_of, list_items, micros, midnight_after, plan, play, remember
from pipeline.simulation.figures import figures
from pipeline.simulation.journal import Journal, Visit
from pipeline.simulation.market import Market
from pipeline.simulation.night import Nights
from pipeline.simulation.page import render
from pipeline.simulation.service import Client, serving
from pipeline.simulation.terminal import Terminal
from pipeline.simulation.world import WORLD_PREFIX, checked_size, checked_targets, open_world


@dataclass(frozen=True)
class Asked:
    """What to simulate.

    Attributes:
        days: how many; may be more when a simulation goes on.
        size, seed: of the world.
        data: a folder that `warmstart data world` wrote, or `world:<size>`; empty: written to `<out>/world`.
        targets: empty is all.
        users_per_day: visits a day in each target.
        searching: share of the users who search for what they want where it was not shown, and take it.
        overrides: parameters of every night.
        address: of a running service; empty starts one.
        out: empty is `$WARMSTART_HOME/simulation/<size>-<seed>`.
    """

    days: int = 5
    size: str = "small"
    seed: int = 7
    data: str = ""
    targets: tuple[str, ...] = ()
    users_per_day: int = 150
    searching: float = 1.0
    overrides: tuple[str, ...] = ()
    address: str = ""
    out: str = ""


def simulate(settings: Settings, asked: Asked) -> Path:
    """Play what is left to play; returns the page, beside which is `figures.json`.

    Raises:
        BadConfiguration: a value cannot be used, or the home is not this simulation's own.
        PassingFault: a server does not answer.
        StageError: a night failed; says in which run, and has its exit code.
    """
    size, targets = checked_size(asked.size, asked.data), checked_targets(asked.targets)
    out = (
        Path(asked.out).expanduser().absolute() if asked.out else settings.home / "simulation" / f"{size}-{asked.seed}"
    )
    question = {
        "size": size, "seed": asked.seed, "data": asked.data, "targets": list(targets),
        "users_per_day": asked.users_per_day, "searching": asked.searching, "overrides": list(asked.overrides),
    }  # fmt: skip
    journal = Journal(out, question)
    with Terminal() as terminal:
        if any(journal.night(date_of(day)) is None for day in range(1, asked.days + 1)):
            _go_on(settings, asked, size, targets, journal, terminal)
    page = write(journal, asked.days)
    terminal.done(page)
    return page


def _go_on(
    settings: Settings, asked: Asked, size: str, targets: tuple[str, ...], journal: Journal, terminal: Terminal
) -> None:
    """World, stack, champion, service; then what is left of the days, each with its night."""
    from pipeline.stack.lifecycle import up

    terminal.say("the world")
    world, data = open_world(size, asked.seed, asked.data, targets, journal.folder / "world")
    terminal.say("the stack")
    up(settings, terminal.say)
    if not journal.visits(date_of(1)):
        refuse_used_home(settings, targets, END)
    own = [f"seed={asked.seed}"] if data.startswith(WORLD_PREFIX) else []  # a folder has its seed in its rows
    nights = Nights(settings, data, targets, [*own, *asked.overrides])
    if without_champion(settings, targets, data, END):
        terminal.night(0, nights.first(END, lambda text: terminal.say(f"first night, {text}")))
    if left := without_champion(settings, targets, data, END):
        raise BadConfiguration(
            f"the first night promoted nothing for {', '.join(left)}, for the gate's reasons; give it more training"
            " with --set, or promote by hand (`warmstart models promote`), and start again."
        )
    with serving(settings, targets, asked.address, journal.folder / "serve.log") as client:
        markets = {target: Market(world, target) for target in targets}
        since = micros(END)
        for day in range(1, asked.days + 1):
            new = {target: newcomers(world, target, SIZES[size][target], day, asked.seed) for target in targets}
            for target, market in markets.items():
                market.join(new[target], day)
            if journal.night(date_of(day)) is None:
                visits = _day(client, markets, journal, day, new, since, asked, terminal)
                journal.finish(date_of(day), _night(nights, client, journal, markets, day, terminal))
                write(journal, day)
            else:
                visits = journal.visits(date_of(day))
                for visit in visits:
                    remember(markets[visit.target], visit)
            for visit in visits:
                markets[visit.target].midnight(visit.taken)
            since = max((visit.at for visit in visits), default=since)


def _day(
    client: Client, markets: Mapping[str, Market], journal: Journal, day: int, new: Mapping[str, Newcomers], since: int,
    asked: Asked, terminal: Terminal,
) -> list[Visit]:  # fmt: skip
    visits = plan(markets, day, asked.seed, asked.users_per_day)
    known = journal.visits(date_of(day))
    if len(known) < len(visits):
        last = known[-1:] or journal.visits(date_of(day - 1))[-1:]
        for visit in last:  # the service may have been started anew: an event that is sent again tells it the time
            client.feedback(visit.target, [visit.last_event])
        for target, newcomer in new.items():
            list_items(client, target, newcomer, since)
    played = play(
        client,
        markets,
        journal,
        day,
        visits,
        asked.searching,
        lambda n: terminal.say(f"day {day}: visit {n} of {len(visits)}"),
    )
    terminal.day(day, played)
    return played


def _night(
    nights: Nights, client: Client, journal: Journal, markets: Mapping[str, Market], day: int, terminal: Terminal
) -> dict[str, Any]:
    night = nights.after(midnight_after(day), lambda text: terminal.say(f"night {day}, {text}"))
    for target in markets:
        taken = sum(
            v.target == target and v.taken is not None for d in range(1, day + 1) for v in journal.visits(date_of(d))
        )
        if night["feedback_rows"][target] < taken:
            raise BadConfiguration(
                f"run {night['run']} learned {night['feedback_rows'][target]:,} of {taken:,} events of {target}: the"
                " others were received after its as_of; start the service with --simulated-clock."
            )
    client.wait_for({target: told["champion"] for target, told in night["verdicts"].items()})
    terminal.night(day, night)
    return night


def write(journal: Journal, days: int) -> Path:
    """Figures and page of the days that are over."""
    nights = {day: night for day in map(date_of, range(1, days + 1)) if (night := journal.night(day)) is not None}
    found = {"asked": journal.asked, **figures({day: journal.visits(day) for day in nights}, nights)}
    write_whole(journal.folder / "figures.json", (json.dumps(found, indent=1) + "\n").encode())
    page = journal.folder / "index.html"
    write_whole(page, render(found).encode())
    return page
