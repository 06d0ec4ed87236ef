"""Promotion and rollback: compare-and-set on the champion, under one lock of PostgreSQL, with the log as the truth.

    1. take the target's lock               2. let the alias follow the log (`follow_log`)
    3. is the champion the one that the verdict was made against? otherwise judge again
    4. append to the log                    5. move MLflow's alias        6. let go

A process killed before 4 has changed nothing. Killed between 4 and 5, the log is ahead of the alias until the next
start of anything here repairs it. MLflow's aliases have no compare-and-set: check-then-set by four promoters chose a
wrong champion in 16 of 20 rounds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pipeline.evaluation.verdict import Verdict
from pipeline.exit_codes import BadConfiguration, DataBrokeContract, PassingFault
from pipeline.registry.champion import ALIAS, PREFIX, PROMOTION_TAG, RUN_TAG, model_name, target_of, version_of
from pipeline.registry.mlflow_rest import MlflowRest
from pipeline.registry.promotion_log import (
    Action,
    Entry,
    append,
    broken_links,
    champions_before,
    entries,
    head,
    promotion_lock,
)  # fmt: skip
from pipeline.registry.steps import passed

if TYPE_CHECKING:
    import psycopg

log = logging.getLogger(__name__)

JUDGED_AT_MOST = 10  # times, when the champion changes under one's hands


class ChampionChanged(Exception):
    """The verdict was made against a version that is not the champion any more."""


def promote_if(
    rest: MlflowRest, target: str, version: int, judge: Callable[[int | None], Verdict], run_id: str
) -> tuple[Verdict, Entry | None, int | None]:
    """Judge a version against the champion and promote it on `promote`; judged again whenever the champion changed.

    A run promotes its version once: repeated, it finds its own entry; after a person has rolled back, it holds.

    Args:
        judge: the verdict against this version, None when there is no champion yet. It may take long: the lock is not
            held meanwhile.
        run_id: the run that decides.

    Returns:
        the verdict, the log's entry (None when it was not promoted), and the champion it was judged against.

    Raises:
        PassingFault: the champion kept changing, or a server is away.
        DataBrokeContract: the log has been tampered with.
    """
    for _ in range(JUDGED_AT_MOST):
        with promotion_lock(target) as connection:
            follow_log(connection, rest, target)
            chain = entries(connection, target)
        ours = [e for e in chain if e.run_id == run_id and e.to_version == version and e.action == "promote"]
        champion = chain[-1].to_version if chain else None
        if ours and ours[-1] == chain[-1]:
            return judge(ours[-1].from_version), ours[-1], ours[-1].from_version
        if ours:
            reason = f"this run promoted it at {ours[-1].decided_at:%Y-%m-%d %H:%M} UTC, and it has been replaced since"
            return Verdict("hold", [reason], model_name(target), version, champion), None, champion
        verdict = judge(champion)
        passed("judged")
        if verdict.verdict != "promote":
            return verdict, None, champion
        try:
            reason = "; ".join(verdict.reasons)
            entry = promote(rest, target, version, champion, f"run {run_id}", reason, verdict.sha256, run_id)
        except ChampionChanged as fault:
            log.info("%s; judging again", fault)
            continue
        return verdict, entry, champion
    raise PassingFault(f"the champion of {target} changed {JUDGED_AT_MOST} times while version {version} was judged")


def promote(
    rest: MlflowRest,
    target: str,
    version: int,
    against: int | None,
    actor: str,
    reason: str,
    verdict_sha256: str | None,
    run_id: str | None = None,
) -> Entry:
    """Make a version champion in place of `against`.

    Raises:
        ChampionChanged: the champion is not `against`.
        BadConfiguration: there is no such version.
        PassingFault, DataBrokeContract: as of `promote_if`.
    """
    with promotion_lock(target) as connection:
        follow_log(connection, rest, target)
        before = head(connection, target)
        champion = before.to_version if before else None
        if champion != against:
            raise ChampionChanged(f"version {version} of {target} was judged against {against}, it is {champion} now")
        return _move(
            connection, rest, _entry(target, actor, "promote", reason, verdict_sha256, champion, version, run_id)
        )


def roll_back(rest: MlflowRest, target: str, actor: str, reason: str, to: int | None = None) -> Entry:
    """Make an earlier champion champion again: the one before, or `to`.

    Raises:
        BadConfiguration: there is no earlier champion, or `to` was none.
        PassingFault, DataBrokeContract: as of `promote_if`.
    """
    with promotion_lock(target) as connection:
        follow_log(connection, rest, target)
        chain = entries(connection, target)
        earlier = champions_before(chain)
        if not chain:
            raise BadConfiguration(f"{model_name(target)} has never had a champion: nothing to roll back")
        if not earlier:
            raise BadConfiguration(f"{model_name(target)} has had no champion before version {chain[-1].to_version}")
        if to is not None and to not in earlier:
            known = ", ".join(str(version) for version in reversed(earlier))
            raise BadConfiguration(f"version {to} of {model_name(target)} is no earlier champion; those are: {known}")
        version = earlier[-1] if to is None else to
        return _move(
            connection, rest, _entry(target, actor, "rollback", reason, None, chain[-1].to_version, version, None)
        )


def repair(rest: MlflowRest, target: str | None = None) -> list[str]:
    """Let the alias follow the log, of one target or of every one; returns what was done, a sentence each.

    Raises:
        DataBrokeContract: a log has been tampered with: nothing is moved there.
    """
    done, refused = [], []
    for one in [target] if target else [target_of(name) for name in rest.models(PREFIX)]:
        try:
            with promotion_lock(one) as connection:
                done += follow_log(connection, rest, one)
        except DataBrokeContract as fault:
            refused.append(str(fault))
    if refused:
        raise DataBrokeContract("; ".join(refused))
    return done


def follow_log(connection: psycopg.Connection, rest: MlflowRest, target: str) -> list[str]:
    """`repair` of one target, under its lock."""
    name = model_name(target)
    chain = entries(connection, target)
    if broken := broken_links(chain):
        raise DataBrokeContract(f"the promotion log cannot be trusted, nothing is moved: {broken[0]}")
    answer = rest.version_by_alias(name, ALIAS)
    shown = version_of(answer) if answer else None
    if not chain:
        return [_adopt(connection, rest, target, shown.version, shown.tags)] if shown else []
    last = chain[-1]
    mark = shown.tags.get(PROMOTION_TAG) if shown else None
    if mark and mark not in {entry.sha256 for entry in chain}:
        assert shown is not None
        raise DataBrokeContract(
            f"the promotion log cannot be trusted, nothing is moved: {name} version {shown.version} was promoted by "
            f"entry {mark[:12]}, which is not in the log: the end of the log has been removed"
        )
    if shown and shown.version == last.to_version:
        if mark != last.sha256:
            rest.set_version_tag(name, last.to_version, PROMOTION_TAG, last.sha256)
        return []
    if rest.version(name, last.to_version) is None:
        log.warning(
            "%s version %d is champion by the log, and is gone from MLflow: promote another", name, last.to_version
        )
        return []
    _point(rest, last)
    was = f"at {shown.version}" if shown else "not set"
    done = f"{name}: the alias follows the log to version {last.to_version}; it was {was}"
    log.warning("%s", done)
    return [done]


def _adopt(connection: psycopg.Connection, rest: MlflowRest, target: str, version: int, tags: Any) -> str:
    # a registry from before the log: its champion becomes the first entry
    actor = f"run {tags[RUN_TAG]}" if tags.get(RUN_TAG) else "user unknown"
    entry = _entry(target, actor, "promote", "was champion when the log began", None, None, version, tags.get(RUN_TAG))
    _point(rest, append(connection, entry))
    return f"{model_name(target)}: version {version}, champion when the log began, is its first entry"


def _move(connection: psycopg.Connection, rest: MlflowRest, entry: Entry) -> Entry:
    import psycopg

    found = rest.version(model_name(entry.target), entry.to_version)
    if found is None:
        raise BadConfiguration(f"{model_name(entry.target)} has no version {entry.to_version}")
    passed("champion read")
    written = append(connection, entry)
    passed("decision logged")
    _point(rest, written)
    try:
        connection.execute("select 1")
    except psycopg.OperationalError:
        # PostgreSQL went away after the log was written, and the lock with it: another may have promoted meanwhile
        repair(rest, entry.target)
    return written


def _point(rest: MlflowRest, entry: Entry) -> None:
    name = model_name(entry.target)
    # the tag first: an alias without it would look like one that somebody has moved by hand
    rest.set_version_tag(name, entry.to_version, PROMOTION_TAG, entry.sha256)
    passed("version marked")
    rest.set_alias(name, ALIAS, entry.to_version)
    passed("alias moved")


def _entry(
    target: str,
    actor: str,
    action: Action,
    reason: str,
    verdict: str | None,
    before: int | None,
    to: int,
    run: str | None,
) -> Entry:
    return Entry(target, datetime.now(UTC), actor, action, reason, verdict, before, to, run)
