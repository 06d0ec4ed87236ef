"""Bring what the gate needs together: the challenger's figures, and the champion's on the very same users."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.data.training_set import DomainData
from pipeline.evaluation.evidence import Evidence, measure
from pipeline.evaluation.gate import Candidate, Rules
from pipeline.evaluation.verdict import Verdict
from pipeline.registry.champion import BYTES_TAG, P50_TAG, VERDICT_TAG, Version, download, target_of, version_of
from pipeline.registry.mlflow_rest import MlflowRest
from pipeline.registry.promotion_log import head, log_connection
from pipeline.registry.registration import keep_file

log = logging.getLogger(__name__)

Judge = Callable[[Candidate, Evidence, Candidate | None, Evidence | None, Rules], Verdict]


class Judging:
    """Judges one registered version against whichever champion it meets; each champion is ranked once.

    Args:
        client: MLflow's own, for files.
        data: today's training set of the target; champions are ranked on its test users.
        age_days: from the version's as_of to the run.
        scratch: where champions are downloaded to.
    """

    def __init__(
        self,
        client: Any,
        rest: MlflowRest,
        version: Version,
        evidence: Evidence,
        data: DomainData,
        age_days: float | None,
        scratch: Path,
    ) -> None:
        self._client, self._rest, self._version, self._evidence = client, rest, version, evidence
        self._data, self._age_days, self._scratch = data, age_days, scratch
        self._ranked: dict[int, Evidence] = {}

    def champion(self) -> int | None:
        """The version that serves now, by the log."""
        with log_connection() as connection:
            last = head(connection, target_of(self._version.name))
        return last.to_version if last else None

    def verdict(self, champion: int | None, judge: Judge, rules: Rules) -> Verdict:
        """Judge against version `champion`, None for no champion. The verdict is kept with the version's files."""
        theirs, evidence = None, None
        if champion is not None:
            answer = self._rest.version(self._version.name, champion)
            if answer is None:  # deleted in MLflow: nothing to compare with, and the gate refuses
                theirs = Candidate(self._version.name, champion, content="", as_of="")
            else:
                known = version_of(answer)
                theirs = candidate(known, None)
                if known.content != self._version.content:
                    evidence = self._rank(known)
        found = judge(candidate(self._version, self._age_days), self._evidence, theirs, evidence, rules)
        text = json.dumps(found.as_dict(), indent=1, sort_keys=True) + "\n"
        keep_file(self._client, self._version, f"verdicts/{found.sha256}.json", text.encode())
        return found

    def mark(self, decision: str) -> None:
        """Write the decision on the version, for people who look in MLflow."""
        self._rest.set_version_tag(self._version.name, self._version.version, VERDICT_TAG, decision)

    def _rank(self, champion: Version) -> Evidence:
        if champion.version not in self._ranked:
            log.info("ranking version %d on the same %d users", champion.version, len(self._evidence.users))
            served = download(champion, "served", self._scratch / f"version-{champion.version}")
            self._ranked[champion.version] = measure(served, self._data)
        return self._ranked[champion.version]


def candidate(version: Version, age_days: float | None) -> Candidate:
    """A version as the gate sees it."""
    return Candidate(
        version.name,
        version.version,
        version.content,
        version.as_of,
        version.figure(BYTES_TAG),
        version.figure(P50_TAG),
        age_days,
    )
