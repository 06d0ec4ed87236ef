"""`lineage row`: which snapshots and files hold a user's rows, whether they were quarantined, which models saw them.

The index knows users by pseudonym, as the snapshot does; a raw id is pseudonymised with this machine's key and with the
public one (the synthetic world's). Of items it knows nothing: the pairs would be as many as there are rows, and again
in every nightly edition of a partition. With an item the candidate files are opened (`row_files.py`): only then is it
known how many rows there are and which rule they broke. What cannot be opened, or is not, counts as holding it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from pipeline.exit_codes import BadConfiguration
from pipeline.lineage.index import user_key
from pipeline.lineage.names import nearest
from pipeline.lineage.row_files import OpenedFiles, open_files
from pipeline.lineage.touched import Touched, keep_standing, stand, touched

if TYPE_CHECKING:
    import psycopg

    from pipeline.settings import Settings

RAW, QUARANTINE = "data/snapshot", "data/quarantine"


@dataclass(frozen=True)
class Held:
    """A file that holds rows of the user.

    Attributes:
        matching: rows of the user (and item) in it; None when the file was not opened.
        rules: quarantine only: rule -> matching rows that broke it.
        folders: how many different snapshots (or quarantines) hold the file, in `runs` runs.
        first, last: as_of of the oldest and the newest of these runs.
    """

    path: str
    md5: str
    rows: int | None
    folders: int
    runs: int
    first: datetime
    last: datetime
    matching: int | None = None
    rules: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class RowLineage:
    """The whole answer.

    Attributes:
        user: the pseudonyms that were looked for.
        snapshots: md5 of every data/snapshot that holds such rows.
        not_in_cache: md5 of files that had to be opened and are gone from the cache and the remote.
        not_opened: md5 of files that had to be opened and were not, the newest first: there were too many for a second.
            Both count as holding it.
        touched: what was learned from it. With an item, runs in which every such row was quarantined are left out.
    """

    domain: str
    user: tuple[str, ...]
    item: str | None
    held: tuple[Held, ...]
    quarantined: tuple[Held, ...]
    snapshots: tuple[str, ...]
    not_in_cache: tuple[str, ...]
    not_opened: tuple[str, ...]
    touched: Touched


def row_lineage(
    connection: psycopg.Connection,
    settings: Settings,
    domain: str,
    user: str,
    item: str | None = None,
    every_file: bool = False,
) -> RowLineage:
    """Answer for the rows of `user` in `domain`, or those of them with `item`.

    Args:
        every_file: open every file that may hold the item, not only the newest.

    Raises:
        BadConfiguration: no run has a domain of this name (the sentence has the nearest), or the user or the item is
            empty. A user whom no file holds is an answer, not an error.
    """
    if not user or item == "":
        raise BadConfiguration(f"--{'item' if user else 'user'} is empty: give an id as it stands in your data")
    _refuse_unknown_domain(connection, domain)
    pseudonyms = pseudonyms_of(settings, user)
    values = {"users": [user_key(p) for p in pseudonyms], "out": QUARANTINE, "domain": f"{domain}/%", "item": item}
    stand(connection, HOLDING, values)
    quarantined, quarantined_by = _held(connection), _attempts_of(connection)
    stand(connection, HOLDING, values | {"out": RAW})
    held = _held(connection)
    asked = quarantined if item is None else [*quarantined, *held]
    newest = sorted(asked, key=lambda one: one.last, reverse=True)
    opened = open_files(settings, ((one.md5, one.rows) for one in newest), pseudonyms, item, every_file)
    quarantined = _told(quarantined, opened)
    if item is not None:
        held = [one for one in _told(held, opened) if one.matching != 0]
        quarantined = [one for one in quarantined if one.matching != 0]
        keep_standing(connection, "file in (select id from files where md5 = any(%s))", ([h.md5 for h in held],))
    snapshots = connection.execute(
        "select md5 from trees where id in (select tree from standing) order by 1"
    ).fetchall()
    if item is not None:
        _leave_out_spared(connection, held, quarantined, quarantined_by)
    return RowLineage(
        domain=domain,
        user=pseudonyms,
        item=item,
        held=tuple(held),
        quarantined=tuple(quarantined),
        snapshots=tuple(md5 for (md5,) in snapshots),
        not_in_cache=() if item is None else opened.gone,
        not_opened=() if item is None else opened.left,
        touched=touched(connection),
    )


# one array at a time under &&, so that PostgreSQL reads the GIN index and not every array
HOLDING = """
    select o.attempt, p.path, e.file, o.tree
    from file_users u join entries e on e.file = u.file join paths p on p.id = e.path
    join outputs o on o.tree = e.tree and o.path = %(out)s
    where u.users && %(users)s::bigint[] and p.path like %(domain)s
      and (%(item)s::text is null or p.path not like '%%/users.parquet')
"""


def pseudonyms_of(settings: Settings, user: str) -> tuple[str, ...]:
    """What `user` is called in the data: itself when it is a pseudonym, else its pseudonym by each key."""
    from pipeline.data.pseudonyms import DIGITS, PUBLIC_KEY, pseudonym, secret_key

    if len(user) == DIGITS and all(digit in "0123456789abcdef" for digit in user):
        return (user,)
    has_key = (settings.home / "secrets" / "user_id.key").exists()  # a question must not make one
    keys = [*([secret_key(settings.home)] if has_key else []), PUBLIC_KEY]
    return tuple(dict.fromkeys(pseudonym(user, key) or "" for key in keys))


def _held(connection: psycopg.Connection) -> list[Held]:
    rows = connection.execute(
        """
        select s.path, f.md5, f.rows, count(distinct s.tree), count(distinct r.id), min(r.as_of), max(r.as_of)
        from standing s join files f on f.id = s.file join attempts a on a.id = s.attempt join runs r on r.id = a.run
        group by s.path, f.md5, f.rows order by s.path, min(r.as_of), f.md5
        """
    )
    return [Held(*row) for row in rows]


def _told(held: Sequence[Held], opened: OpenedFiles) -> list[Held]:
    """The same files with what was found inside."""
    told = []
    for one in held:
        rules = opened.rules.get(one.md5)
        if rules is not None:
            one = replace(one, matching=rules.total(), rules={rule: n for rule, n in rules.items() if rule})
        told.append(one)
    return told


def _attempts_of(connection: psycopg.Connection) -> dict[str, list[int]]:
    rows = connection.execute("select f.md5, s.attempt from standing s join files f on f.id = s.file")
    found: dict[str, list[int]] = {}
    for md5, attempt in rows:
        found.setdefault(md5, []).append(attempt)
    return found


def _leave_out_spared(
    connection: psycopg.Connection, held: Sequence[Held], quarantined: Sequence[Held], by: dict[str, list[int]]
) -> None:
    # a snapshot all of whose matching rows its validate put aside: no model saw them
    put_aside: Counter[int] = Counter()
    for one in quarantined:
        for attempt in by.get(one.md5, ()):
            put_aside[attempt] += one.matching or 0
    pairs = connection.execute(
        "select attempt, ancestor from ancestry where attempt = any(%s) and ancestor in (select attempt from standing)",
        (list(put_aside),),
    ).fetchall()
    there: Counter[int] = Counter()
    matching = {one.md5: one.matching for one in held}
    for md5, attempts in _attempts_of(connection).items():
        for attempt in attempts:
            there[attempt] += 1 << 60 if matching.get(md5) is None else matching[md5] or 0
    spared = [snapshot for validate, snapshot in pairs if put_aside[validate] >= there[snapshot]]
    keep_standing(connection, "attempt <> all(%s)", (spared,))


def _refuse_unknown_domain(connection: psycopg.Connection, domain: str) -> None:
    rows = connection.execute(
        "select distinct split_part(path, '/', 1) from paths where path like '%/interactions%' order by 1"
    )
    known = [name for (name,) in rows]
    if domain not in known:
        raise BadConfiguration(f"no run has a domain {domain!r}; {nearest(domain, known)}")
