"""Runtime `kubernetes`: a task is a pod of the stages' image.

`PodOperator` runs one `python -m pipeline …` command in the run's workspace on the shared volume, with the same exit
codes as every other runtime. When the worker dies the pod goes on: the retry attaches to it again by the identity that
Airflow's task state keeps, or by its labels; a pod that does other work (image, command, commit, parameters, inputs) is
deleted first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk.exceptions import AirflowException, AirflowSkipException
from kubernetes.client import ApiException

from pipeline.containers.engine import image_by_digest
from pipeline.containers.labels import container_name
from pipeline.exit_codes import PassingFault
from pipeline.orchestration.container_environment import checkout_environment
from pipeline.orchestration.exit_status import raise_for_exit_code, told
from pipeline.orchestration.inputs import inputs_digest
from pipeline.orchestration.location import home, run_record, workspace_folder
from pipeline.orchestration.pod_spec import CONTAINER, INPUTS_LABEL, pod_name, stage_pod
from pipeline.orchestration.process import task_identity
from pipeline.orchestration.resources import resources

DELETION_SECONDS = 60


class PodOperator(KubernetesPodOperator):
    """Run `python -m pipeline <words>` in a pod, in the workspace of the run.

    Args:
        words: the command's words; templated.
        in_workspace: False only for opening and closing the run, which the checkout's code does (`WARMSTART_CHECKOUT`).

    Attributes:
        meta: resources, as `meta:` in dvc.yaml.
        reads: paths of the inputs, with `${item}` for the target.
        target: target domain of a per-target stage.
    """

    template_fields: Sequence[str] = ("words",)
    ui_color = "#e6e0f4"
    meta: Mapping[str, Any] = MappingProxyType({})
    reads: Sequence[str] = ()
    target: str | None = None
    pod: Any

    def __init__(self, *, words: Sequence[str], in_workspace: bool = True, **kwargs: Any) -> None:
        super().__init__(
            base_container_name=CONTAINER,
            random_name_suffix=False,
            do_xcom_push=False,
            durable=True,
            get_logs=True,
            on_finish_action="delete_pod",
            log_pod_spec_on_failure=False,
            startup_timeout_seconds=600,
            automount_service_account_token=False,
            **kwargs,
        )
        self.words = list(words)
        self.in_workspace = in_workspace

    def execute(self, context: Any) -> Any:
        """Run the command, or go on with the pod of an earlier try; act on the exit code."""
        with told(self):
            self._describe(context)
        return super().execute(context)

    def get_or_create_pod(self, pod_request_obj: Any, context: Any) -> Any:
        """As the base class; but a pod that does other work is not attached to."""
        namespace = pod_request_obj.metadata.namespace
        known = self._get_pod_from_task_state_store(context) or self.find_pod(namespace, context)
        wanted = pod_request_obj.metadata.labels[INPUTS_LABEL]
        if known is not None and known.metadata.labels.get(INPUTS_LABEL) != wanted:
            self.log.info("deleting pod %s of an earlier try: it does other work", known.metadata.name)
            self._delete(known.metadata.name, namespace)
        return super().get_or_create_pod(pod_request_obj, context)

    def cleanup(self, pod: Any, remote_pod: Any, xcom_result: Any = None, context: Any = None) -> None:
        """As the base class; a failure is told by the stage's own exit code."""
        try:
            super().cleanup(pod, remote_pod, xcom_result, context)
        except AirflowSkipException:
            raise
        except AirflowException:
            ending = _ending(remote_pod)
            if ending is None:
                raise
            if ending.reason == "OOMKilled":
                self.log.error("%s", resources(self.meta).out_of_memory("the pod's container"))
            raise_for_exit_code(ending.exit_code, self.task_id)

    def on_kill(self) -> None:
        """Delete the pod, also when the cluster has not yet answered that it is made."""
        if self.pod is None:
            self.pod = self.pod_request_obj
        super().on_kill()

    def _describe(self, context: Any) -> None:
        run_id = context["run_id"]
        folder = workspace_folder(run_id) if self.in_workspace else Path(os.environ["WARMSTART_CHECKOUT"])
        wanted = resources(self.meta)
        pinned = (run_record(folder).get("images") or {}) if self.in_workspace else {}
        image = pinned.get(wanted.image) or image_by_digest(wanted.image)
        ti = context["ti"]
        self.full_pod_spec = stage_pod(
            name=pod_name(container_name(home(), run_id, self._address(ti), ti.try_number)),
            image=image,
            words=self.words,
            folder=folder,
            home=Path(home()),
            wanted=wanted,
            inherited=os.environ,
            besides={} if self.in_workspace else checkout_environment(os.environ),
            task=task_identity(ti),
            inputs=inputs_digest(folder, self.words, self.reads, self.target, image),
            seconds=int(self.execution_timeout.total_seconds()) if self.execution_timeout else None,
        )

    @staticmethod
    def _address(ti: Any) -> str:
        mapped = ti.map_index if ti.map_index is not None and ti.map_index >= 0 else None
        return ti.task_id if mapped is None else f"{ti.task_id}-{mapped}"

    def _delete(self, name: str, namespace: str) -> None:
        deadline = time.monotonic() + DELETION_SECONDS
        try:
            self.client.delete_namespaced_pod(name, namespace)
            while time.monotonic() < deadline:
                self.client.read_namespaced_pod(name, namespace)
                time.sleep(1)
        except ApiException as fault:
            if fault.status == 404:
                return
            raise
        raise PassingFault(f"pod {name} was deleted {DELETION_SECONDS} s ago and is still there")


def _ending(pod: Any) -> Any:
    """How the stage's container ended (exit_code, reason), None while it is not known."""
    statuses = (pod.status.container_statuses if pod and pod.status else None) or []
    return next((s.state.terminated for s in statuses if s.name == CONTAINER and s.state), None)
