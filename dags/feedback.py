"""Feedback, hourly and on demand: closed into partitions by event day, checked, and watched for drift.

The asset `feedback` is updated when a partition changed. It starts nothing here: a night would otherwise be retrained
every hour. `retrain` reads the partitions every night like any source, and is started in between only by `drift`, with
the reason in its run.
"""

from datetime import timedelta

from airflow.sdk import DAG, Asset, CronTriggerTimetable

from pipeline.orchestration.runtime import LifecycleOperator

FEEDBACK = Asset(name="feedback", uri="warmstart://feedback", group="warmstart")
RETRIED = {"retries": 3, "retry_delay": timedelta(seconds=30), "execution_timeout": timedelta(minutes=30)}

with DAG(
    dag_id="feedback",
    description="What users did becomes what the next night learns",
    # no start_date and run_immediately=0: the first tick after unpausing counts, not the one before
    schedule=CronTriggerTimetable("10 * * * *", timezone="UTC", run_immediately=timedelta(0)),
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
    doc_md=__doc__,
    tags=["warmstart"],
) as dag:
    closed = LifecycleOperator(
        task_id="close",
        words=["feedback", "close", "--or-skip"],
        in_workspace=False,
        outlets=[FEEDBACK],
        doc_md="Closes events into a partition per event day, exactly once; skipped when nothing changed.",
        **RETRIED,
    )
    checked = LifecycleOperator(
        task_id="check",
        words=["feedback", "check"],
        in_workspace=False,
        trigger_rule="none_failed",
        doc_md="Hashes the partitions again, and fails (65) when too many events broke the contract.",
        **RETRIED,
    )
    drift = LifecycleOperator(
        task_id="drift",
        words=["feedback", "drift", "--retrain"],
        in_workspace=False,
        trigger_rule="none_failed",
        doc_md="Compares recent feedback with what each champion learned and promised; may start `retrain`.",
        **RETRIED,
    )
    closed >> checked >> drift
