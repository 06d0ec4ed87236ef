"""The OpenLineage events of an attempt at a stage, from its manifest: START, and COMPLETE or FAIL.

https://openlineage.io/spec/2-0-2/OpenLineage.json. The run of a stage is named by the DAG run, its address and the try,
and hangs below the DAG run by the parent facet.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import attr
from openlineage.client.event_v2 import Job, Run, RunEvent, RunState, set_producer
from openlineage.client.facet_v2 import (
    error_message_run,
    job_type_job,
    nominal_time_run,
    parent_run,
    source_code_location_job,
)
from openlineage.client.generated.base import RunFacet

from pipeline.graph import split_address
from pipeline.openlineage.datasets import inputs_of, namespace, outputs_of

PRODUCER = "urn:warmstart:stages"
OURS = uuid.uuid5(uuid.NAMESPACE_URL, "urn:warmstart:runs")
FAILED = "failed"

set_producer(PRODUCER)


@attr.define
class ManifestRunFacet(RunFacet):
    """Ours: from an event to the manifest it was made from, and what no facet of the standard has a field for."""

    sha256: str
    source: str
    exitCode: int  # noqa: N815 (the standard's fields are written so)
    cameFrom: str | None = None  # noqa: N815
    cpuSeconds: float | None = None  # noqa: N815
    peakMemoryBytes: int | None = None  # noqa: N815


def events_of(manifest: Mapping[str, Any], repository: str) -> list[RunEvent]:
    """The events of one attempt.

    Args:
        manifest: as `pipeline.runs.manifest` writes it.
        repository: URL of the code's repository.
    """
    whole = dict(manifest)
    job = _job(whole, repository)
    ending = RunState.FAIL if whole["source"] == FAILED else RunState.COMPLETE
    start = RunEvent(
        eventType=RunState.START,
        eventTime=whole["started"],
        run=_run(whole, ended=False),
        job=job,
        inputs=inputs_of(whole, ended=False),
    )
    end = RunEvent(
        eventType=ending,
        eventTime=whole["ended"],
        run=_run(whole, ended=True),
        job=job,
        inputs=inputs_of(whole, ended=True),
        outputs=outputs_of(whole),
    )
    return [start, end]


def events_of_run(run: Mapping[str, Any], dag: str) -> list[RunEvent]:
    """The events of the DAG run that all of its stages have as parent; `run` is run.yaml of its record."""
    job = Job(namespace=namespace(), name=dag, facets={"jobType": _kind("DAG")})
    facets: dict[str, RunFacet] = {"nominalTime": nominal_time_run.NominalTimeRunFacet(nominalStartTime=run["as_of"])}
    made = Run(runId=parent_id(run["run_id"]), facets=facets)
    ending = RunState.COMPLETE if run["finished"] else RunState.FAIL
    return [
        RunEvent(eventType=RunState.START, eventTime=run["opened"], run=made, job=job),
        RunEvent(eventType=ending, eventTime=run["closed"], run=made, job=job),
    ]


def stage_id(run_id: str, address: str, attempt: int) -> str:
    """runId of one try of a stage; the same on every machine."""
    return str(uuid.uuid5(OURS, f"{run_id}/{address}/{attempt}"))


def parent_id(run_id: str) -> str:
    """runId of a DAG run."""
    return str(uuid.uuid5(OURS, run_id))


def dag_of(manifest: Mapping[str, Any]) -> str:
    """Name of the DAG a manifest was made in; `workspace` outside of an orchestrator."""
    return str((manifest.get("airflow") or {}).get("dag_id") or "workspace")


def _run(manifest: dict[str, Any], ended: bool) -> Run:
    dag, above = dag_of(manifest), parent_id(manifest["run_id"])
    facets: dict[str, RunFacet] = {
        "parent": parent_run.ParentRunFacet(
            run=parent_run.Run(runId=above),
            job=parent_run.Job(namespace=namespace(), name=dag),
            root=parent_run.Root(
                run=parent_run.RootRun(runId=above), job=parent_run.RootJob(namespace=namespace(), name=dag)
            ),
        ),
        "nominalTime": nominal_time_run.NominalTimeRunFacet(nominalStartTime=manifest["as_of"]),
    }
    if ended:
        facets["warmstart_manifest"] = ManifestRunFacet(
            sha256=manifest["sha256"],
            source=manifest["source"],
            exitCode=manifest["exit_code"],
            cameFrom=manifest.get("came_from"),
            cpuSeconds=manifest.get("cpu_seconds"),
            peakMemoryBytes=manifest.get("peak_memory_bytes"),
        )
        if manifest["source"] == FAILED:
            facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
                message=manifest["message"] or f"exit code {manifest['exit_code']}", programmingLanguage="PYTHON"
            )
    return Run(runId=stage_id(manifest["run_id"], manifest["stage"], manifest["try"]), facets=facets)


def _job(manifest: dict[str, Any], repository: str) -> Job:
    name, _ = split_address(manifest["stage"])
    where = source_code_location_job.SourceCodeLocationJobFacet(
        type="git",
        url=repository,
        repoUrl=repository,
        path=f"pipeline/stages/{name}.py",
        version=manifest["code"]["commit"],
    )
    facets = {"sourceCodeLocation": where, "jobType": _kind("STAGE")}
    return Job(namespace=namespace(), name=f"{dag_of(manifest)}.{manifest['stage']}", facets=facets)


def _kind(job_type: str) -> job_type_job.JobTypeJobFacet:
    return job_type_job.JobTypeJobFacet(processingType="BATCH", integration="WARMSTART", jobType=job_type)
