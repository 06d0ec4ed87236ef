"""Start `retrain` for a drift, once for each champion: what a newer model does not mend, a run an hour would not.

An alarm is about now: feedback that ended days ago, or that a simulated clock dates, is reported and starts nothing.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from pipeline.data.feedback import write_whole
from pipeline.feedback.drift_report import Report
from pipeline.settings import Settings

log = logging.getLogger(__name__)
RECENT = timedelta(days=2)


def retrain_for(settings: Settings, reports: Sequence[Report], now: datetime) -> list[str]:
    """What was done, a line for each target that drifts. `now`: UTC.

    Raises:
        BadConfiguration: Airflow refuses the login or the run.
        PassingFault: Airflow does not answer.
    """
    from pipeline.follow.airflow_api import AirflowApi
    from pipeline.stack.credentials import airflow_login

    path = settings.home / "feedback" / "drift" / "alarms.json"
    raised: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    told = [report for report in reports if report.reasons]
    drifting = [report for report in told if abs(now - datetime.fromisoformat(report.until)) <= RECENT]
    new = [r for r in drifting if (raised.get(r.target) or {}).get("champion") != r.run_id]
    lines = [f"{r.target}: its feedback ends at {r.until}, which is not now: no run" for r in told if r not in drifting]
    lines += [
        f"{r.target}: run {raised[r.target]['run']} was started for this champion already"
        for r in drifting if r not in new
    ]  # fmt: skip
    if not new:
        return lines
    reason = "drift: " + "; ".join(f"{report.target}: {report.sentence}" for report in new)
    api = AirflowApi(settings.airflow_uri, *airflow_login(settings))
    run_id = api.trigger({"reason": reason[:500]})
    raised |= {report.target: {"champion": report.run_id, "run": run_id, "reason": reason} for report in new}
    write_whole(path, json.dumps(raised, indent=1, sort_keys=True).encode())
    return [*lines, f"started {run_id}, because of {reason}"]
