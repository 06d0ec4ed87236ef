"""Promotion by a person: the same gate, on the evidence that stands with the versions.

A verdict that the version's own run made against today's champion counts. Otherwise the two are judged again, when both
were measured on the same test users; when they were not, the gate refuses, and a run or `--force` decides.
"""

from __future__ import annotations

import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.evaluation.evidence import read_evidence
from pipeline.evaluation.gate import Candidate, Rules, judge
from pipeline.evaluation.verdict import Verdict
from pipeline.exit_codes import DataBrokeContract
from pipeline.registry.champion import Version, download, version_of
from pipeline.registry.decision import candidate
from pipeline.registry.mlflow_rest import MlflowRest
from pipeline.registry.registration import keep_file
from pipeline.runs.tracking import client


def judge_by_hand(rest: MlflowRest, version: Version, champion: int | None) -> tuple[str, list[str], str | None]:
    """(decision, reasons, verdict's hash) of a version against version `champion`, None for no champion.

    Raises:
        DataBrokeContract: the version has no evaluation and no verdict: it was not registered by a run.
    """
    with tempfile.TemporaryDirectory() as scratch:
        files = download(version, version.files, Path(scratch) / "ours")
        verdicts = [json.loads(path.read_text()) for path in sorted((files / "verdicts").glob("*.json"))]
        if not version.files or not verdicts:
            raise DataBrokeContract(
                f"{version.name} version {version.version} was never judged: no evidence stands with it"
            )
        for known in verdicts:
            if known["champion"] == champion and known["version"] == version.version:
                return known["verdict"], known["reasons"], known["sha256"]
        found = _judge_again(rest, version, champion, files, verdicts[-1]["rules"], Path(scratch))
    text = json.dumps(found.as_dict(), indent=1, sort_keys=True) + "\n"
    keep_file(client(), version, f"verdicts/{found.sha256}.json", text.encode())
    return found.verdict, found.reasons, found.sha256


def _judge_again(
    rest: MlflowRest, version: Version, champion: int | None, files: Path, rules: dict[str, Any], scratch: Path
) -> Verdict:
    theirs, evidence = None, None
    answer = rest.version(version.name, champion) if champion is not None else None
    if champion is not None:
        theirs = Candidate(version.name, champion, content="", as_of="")
    if answer:
        known = version_of(answer)
        theirs = candidate(known, None)
        report = download(known, known.files, scratch / "theirs") / "evaluation"
        evidence = read_evidence(report) if report.is_dir() else None
    days = (datetime.now(UTC) - datetime.fromisoformat(version.as_of)).total_seconds() / 86_400
    return judge(candidate(version, days), read_evidence(files / "evaluation"), theirs, evidence, Rules(**rules))
