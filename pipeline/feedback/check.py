"""Are the closed partitions what was closed, and do they keep their contract?

    warmstart feedback check

A broken contract ends the hour's work with 65, and leaves the partitions as they are.
"""

from __future__ import annotations

import hashlib

from pipeline.exit_codes import DataBrokeContract
from pipeline.settings import Settings

MAX_QUARANTINED = 0.05  # of a day's events; as `validate.max_quarantined_share` for a snapshot


def check_partitions(settings: Settings) -> int:
    """How many partitions were checked.

    Raises:
        DataBrokeContract: a file is gone or altered, or more of a day than `MAX_QUARANTINED` broke a rule.
        PassingFault: PostgreSQL does not answer.
    """
    import pyarrow.parquet as pq

    from pipeline.lineage.database import connected

    with connected() as connection:
        newest = connection.execute(
            "select distinct on (target, day) target, day, rows, sha256, path from feedback_partitions"
            " order by target, day, version desc"
        ).fetchall()
    faults = []
    for target, day, rows, sha, path in newest:
        file = settings.home / path
        if not file.exists():
            faults.append(f"{file} is gone; restore it from a backup")
        elif hashlib.sha256(file.read_bytes()).hexdigest() != sha:
            faults.append(f"{file} has been altered since it was closed; restore it from a backup")
        elif (left := rows - pq.read_metadata(file).num_rows) > MAX_QUARANTINED * rows:
            faults.append(
                f"{target} {day}: {left:,} of {rows:,} events ({left / rows:.1%}) broke a rule, more than"
                f" {MAX_QUARANTINED:.0%}; look at {settings.home}/feedback/{target}/quarantine/{day}.parquet"
            )
    if faults:
        more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
        raise DataBrokeContract(f"feedback: {faults[0]}{more}.")
    return len(newest)
