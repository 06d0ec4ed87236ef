"""A night: the DAG `feedback` closes the day, `retrain` learns from it; both through Airflow, as every other night.

A night judges on the last days and learns from all before them. With the shares of params.yaml, tenths of the time
range, what users do would be learned two months later: a model trains only on what is older than its test period. The
few hundred users of two days cannot show that a model is not 2 % worse, so the gate is given a wider margin; without it
no night of a world this small would be promoted. The caller's own parameters go before these.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipeline.data.world.params import START
from pipeline.exit_codes import BadConfiguration, DataBrokeContract, PassingFault, StageError
from pipeline.follow.airflow_api import AirflowApi
from pipeline.follow.live import ENDED, exit_code_of, run_folder, stage_rows
from pipeline.graph import load_graph
from pipeline.runs.as_of import format_as_of
from pipeline.runs.manifest import read_manifests
from pipeline.settings import CHECKOUT, Settings
from pipeline.stack.credentials import airflow_login

RETRAIN, FEEDBACK = "retrain", "feedback"
JUDGED_DAYS = 2  # of the test period; as many before them validate
MARGIN = 0.15  # relative loss of NDCG@10 against the champion that counts as equal
POLL_SECONDS = 0.5
Say = Callable[[str], None]


@dataclass(frozen=True)
class Nights:
    """What all nights of a simulation have in common.

    Attributes:
        data: the dataset folder or `world:<size>`.
        overrides: of the caller.
    """

    settings: Settings
    data: str
    targets: Sequence[str]
    overrides: Sequence[str]

    def first(self, as_of: datetime, say: Say) -> dict[str, Any]:
        """Learn the world's year, so that there is a champion.

        Raises:
            StageError: see `retrain`.
        """
        return self._retrain(as_of, self.overrides, "before the first simulated day", say)

    def after(self, as_of: datetime, say: Say) -> dict[str, Any]:
        """Close the day before `as_of` and learn from it.

        Raises:
            StageError: see `retrain`.
        """
        closed = self._run(FEEDBACK, {}, say)
        share = JUDGED_DAYS * 86_400 / (as_of - START).total_seconds()
        nightly = [
            "pretrain.warm_start=champion", f"features.test_share={share:.6f}",
            f"features.validation_share={share:.6f}", f"register.noninferiority_margin={MARGIN}",
        ]  # fmt: skip
        return {"feedback_run": closed, **self._retrain(as_of, [*nightly, *self.overrides], "a simulated night", say)}

    def _retrain(self, as_of: datetime, overrides: Sequence[str], reason: str, say: Say) -> dict[str, Any]:
        """Run `retrain`: its run, each target's receipt in short, and the rows of feedback it learned from.

        Raises:
            StageError: the run failed; of the kind that its exit code says.
        """
        conf = {
            "data": self.data, "targets": list(self.targets), "as_of": format_as_of(as_of),
            "overrides": list(overrides), "reason": reason,
        }  # fmt: skip
        run_id = self._run(RETRAIN, conf, say)
        folder = run_folder(self.settings, run_id)
        assert folder is not None  # a run that ended well was opened
        verdicts = {}
        for target in self.targets:
            receipt = json.loads((folder / "receipts" / "register" / target / "receipt.json").read_text("utf-8"))
            verdicts[target] = {
                name: receipt[name] for name in ("version", "verdict", "reasons", "champion_before", "champion")
            }
        sources = read_manifests(folder)["snapshot"]["sources"]
        rows = {target: sources.get(f"{target}/{FEEDBACK}", {}).get("rows", 0) for target in self.targets}
        return {"run": run_id, "as_of": format_as_of(as_of), "verdicts": verdicts, "feedback_rows": rows}

    def _run(self, dag: str, conf: dict[str, Any], say: Say) -> str:
        """Trigger a DAG and follow it to a good end."""
        api = AirflowApi(self.settings.airflow_uri, *airflow_login(self.settings), dag=dag)
        api.await_dag()
        run_id = api.trigger(conf)
        while (state := api.run_state(run_id)) not in ENDED:
            running = [task["task_id"].rpartition(".")[2] for task in api.tasks(run_id) if task["state"] == "running"]
            say(f"{dag}: {', '.join(running) or state}")
            time.sleep(POLL_SECONDS)
        if state != "success":
            raise self._fault(dag, run_id, api)
        return run_id

    def _fault(self, dag: str, run_id: str, api: AirflowApi) -> StageError:
        """What failed and why, where its log is; of the kind that its exit code says."""
        tasks, code = api.tasks(run_id), None
        failed = [task["task_id"] for task in tasks if task["state"] == "failed"]
        if dag == RETRAIN:
            rows = stage_rows(tasks, run_id, load_graph(CHECKOUT / "dvc.yaml"), self.settings)
            failed = [f"{row['stage']} ({row['found']})" for row in rows if row["state"] == "failed"]
            code = exit_code_of(run_id, self.settings)
        sentence = (
            f"the DAG {dag} failed in {'; '.join(failed) or 'no task'}. Run {run_id}, its log:"
            f" {self.settings.airflow_uri}/dags/{dag}/runs/{run_id}. Started again, the simulation goes on with this"
            " night."
        )
        kinds: tuple[type[StageError], ...] = (DataBrokeContract, PassingFault, BadConfiguration)
        return next((kind for kind in kinds if kind.exit_code == code), StageError)(sentence)
