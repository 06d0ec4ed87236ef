"""One simulated day: items are listed, users come, see ten items, take what they truly want if they find it.

Everything about a day but the service's answers follows from the seed: who comes when, and what each of them wants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from pipeline.data.world.params import END
from pipeline.exit_codes import BadConfiguration, PassingFault
from pipeline.simulation.arrivals import Newcomers
from pipeline.simulation.choice import best_utility, draw, utility
from pipeline.simulation.journal import Journal, Visit
from pipeline.simulation.market import Market
from pipeline.simulation.service import Client

K = 10
DAY_US = 86_400_000_000
CLICK_AFTER_US = 20_000_000
STREAM = 0xDA7


@dataclass(frozen=True)
class Planned:
    """A visit before it happens: `wish` and `search`, in [0, 1), decide what is wanted and whether it is searched."""

    target: str
    user: int
    at: int
    wish: float
    search: float


def date_of(day: int) -> date:
    """Date of day number `day`, which counts from 1."""
    return (END + timedelta(days=day - 1)).date()


def midnight_after(day: int) -> datetime:
    """UTC."""
    return END + timedelta(days=day)


def plan(markets: Mapping[str, Market], day: int, seed: int, users_per_day: int) -> list[Planned]:
    """The visits of a day in their order: all who joined today, and others until `users_per_day` a market are there.

    A user comes at most once a day, so that visits are independent of each other.
    """
    visits = []
    begin = micros(midnight_after(day - 1))
    for number, (name, market) in enumerate(sorted(markets.items())):
        rng = np.random.default_rng([seed, STREAM, number, day])
        users = len(market.user_ids)
        new = np.flatnonzero(np.array(market.joined_on) == day)
        old = rng.permutation(np.setdiff1d(np.arange(users), new))
        present = np.concatenate([new, old])[:users_per_day]
        at = begin + np.sort(rng.integers(0, DAY_US - CLICK_AFTER_US, len(present)))
        wish, search = rng.random(len(present)), rng.random(len(present))
        visits += [
            Planned(name, *row)
            for row in zip(rng.permutation(present).tolist(), at.tolist(), wish.tolist(), search.tolist(), strict=True)
        ]
    return sorted(visits, key=lambda visit: (visit.at, visit.target))


def list_items(client: Client, target: str, new: Newcomers, since: int) -> None:
    """Tell the service of a day's new items. `since`: microseconds UTC, not after the service's now.

    Raises:
        PassingFault: an item cannot be recommended.
    """
    for item, text, attributes in new.items.iter_rows():
        told = {"item_id": item, "text": text, "attributes": attributes, "available_from": _moment(since)}
        answer = client.list_item(target, told)
        if not answer["recommendable"]:
            raise PassingFault(f"{target}: the new item {item} is not recommendable: {answer['note']}.")


def play(
    client: Client, markets: Mapping[str, Market], journal: Journal, day: int, visits: Sequence[Planned],
    searching: float, say: Callable[[int], None],
) -> list[Visit]:  # fmt: skip
    """Play what is left of a day.

    Args:
        searching: share of the users who search for what they want where it was not shown, and take it unrecommended.
        say: gets the number of visits so far.

    Raises:
        BadConfiguration: the service recommends what is not in this world.
        PassingFault: it does not answer.
    """
    done = journal.visits(date_of(day))
    for visit in done:
        remember(markets[visit.target], visit)
    there = {(visit.target, visit.user) for visit in done}
    for planned in visits:
        if (planned.target, planned.user) in there:
            continue
        visit = _visit(client, markets[planned.target], planned, day, searching)
        journal.add(date_of(day), visit)
        remember(markets[visit.target], visit)
        done.append(visit)
        say(len(done))
    return done


def remember(market: Market, visit: Visit) -> None:
    """The user has what they took."""
    if visit.taken is not None:
        market.seen[visit.user].append(visit.taken)


def _visit(client: Client, market: Market, planned: Planned, day: int, searching: float) -> Visit:
    user = market.user_ids[planned.user]
    chance = market.wants(planned.user)
    wanted = draw(chance, planned.wish)
    popular = market.popular(planned.user, K).tolist()
    answer = client.recommend(market.name, user, market.attributes[planned.user], K)
    shown = []
    for item in answer["items"]:
        if item["item_id"] not in market.item_index:
            raise BadConfiguration(
                f"{answer['model']} recommends {item['item_id']!r}, which is not in this world: it learned from another"
                " dataset; simulate in a home of its own (WARMSTART_HOME)."
            )
        shown.append(market.item_index[item["item_id"]])
    taken = wanted if wanted in shown or planned.search < searching else None
    events = [
        _event(market, planned, item, "impression", planned.at, answer["request_id"]) for item in shown
    ]  # fmt: skip
    if taken is not None:
        asked = answer["request_id"] if taken in shown else None
        events.append(_event(market, planned, taken, "click", planned.at + CLICK_AFTER_US, asked))
    client.feedback(market.name, events)
    listed = int(market.listed_on[wanted])
    return Visit(
        market.name, planned.user, planned.at, wanted, shown, taken, utility(chance, shown), best_utility(chance, K),
        wanted in popular, utility(chance, popular), answer["source"], answer["model"], not market.seen[planned.user],
        day - listed if listed else None, events[-1],
    )  # fmt: skip


def _event(market: Market, planned: Planned, item: int, event: str, at: int, request_id: str | None) -> dict[str, Any]:
    user, name = market.user_ids[planned.user], market.item_ids[item]
    return {
        "event_id": f"simulated-{market.name}-{planned.at}-{user}-{name}-{event}",
        "user_id": user,
        "item_id": name,
        "event": event,
        "happened_at": _moment(at),
        "request_id": request_id,
    }


def micros(moment: datetime) -> int:
    """Microseconds since 1970 UTC of a whole second."""
    return int(moment.timestamp()) * 1_000_000


def _moment(at: int) -> str:
    return (datetime.fromtimestamp(at // 1_000_000, UTC) + timedelta(microseconds=at % 1_000_000)).isoformat()
