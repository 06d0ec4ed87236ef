"""The nightly retraining run, rendered from dvc.yaml: only wiring.

Scheduled every night, triggered by hand with a form, started by an update of the dataset asset, or backfilled; every
one of them learns from the rows before its `as_of` (pipeline/runs/as_of.py has the one rule).
"""

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, AssetOrTimeSchedule, CronTriggerTimetable, Param

from pipeline.graph import load_graph
from pipeline.orchestration.render import DATASET, render
from pipeline.orchestration.run_lifecycle import CloseRunOperator, OpenRunOperator

GRAPH = load_graph(Path(__file__).resolve().parents[1] / "dvc.yaml")
NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]*$"

FORM = {
    "as_of": Param(
        None,
        type=["null", "string"],
        pattern=r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$",
        description="Learn from rows before this moment (UTC). Empty: the last midnight before the run was due.",
    ),
    "data": Param(
        None,
        type=["null", "string"],
        minLength=1,
        description="A dataset folder, a dataset.yaml or world:small. Empty: as params.yaml says.",
    ),
    "targets": Param(
        None,
        type=["null", "array"],
        items={"type": "string", "pattern": NAME},
        description="Target domains, one a line. Empty: all of the dataset.",
    ),
    "overrides": Param(
        [],
        type=["null", "array"],
        items={"type": "string", "pattern": r"^[a-z_]+(\.[a-z_]+)*=.*$"},
        description="Parameters, one a line: pretrain.epochs=3",
    ),
    "git_ref": Param("HEAD", type="string", minLength=1, description="Branch, tag or commit to run."),
    "promote": Param(True, type="boolean", description="May the new models become champions?"),
    "reason": Param(None, type=["null", "string"], maxLength=500, description="Why; kept with the run."),
}

with DAG(
    dag_id="retrain",
    description="From raw rows to registered, promoted models",
    # no start_date and run_immediately=0: the first tick after unpausing counts, not the one before
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("0 2 * * *", timezone="UTC", run_immediately=timedelta(0)),
        assets=[DATASET],
    ),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    params=FORM,
    doc_md=__doc__,
    tags=["warmstart"],
) as dag:
    opened = OpenRunOperator(
        task_id="open",
        retries=3,
        retry_delay=timedelta(seconds=15),
        doc_md="Opens the run: a workspace at the pinned commit, its parameters and dataset checked.",
    ).as_setup()
    closed = CloseRunOperator(
        task_id="close",
        retries=5,
        retry_delay=timedelta(seconds=15),
        trigger_rule="all_done",
        doc_md="Closes the run: record, push to the DVC remote, tidy; a failed run's workspace is kept.",
    )
    tasks = render(GRAPH, opened)
    closed.as_teardown(setups=opened)
    [task for task in tasks.values() if not task.downstream_task_ids] >> closed
