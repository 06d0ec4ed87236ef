"""Runtime `docker`: a task is a container of the stages' image on a Docker engine.

`ContainerOperator` runs one `python -m pipeline …` command in the run's workspace, as `ProcessOperator` does, with the
same exit codes. What differs when the worker dies: the container goes on, and the retry adopts it.

Guaranteed: at most one container works at a stage of a run. A retry finds the container of an earlier try by Airflow's
task state, and, where the worker died before that was written, by its labels. It adopts it if it does the same work
(image, command, commit, parameters, inputs), also when it has ended meanwhile; else it ends it first.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from airflow.providers.docker.operators.docker import DockerOperator
from airflow.sdk import ResumableJobMixin
from airflow.sdk.exceptions import AirflowException
from docker.errors import APIError, NotFound
from docker.types import DeviceRequest

from pipeline.containers import engine
from pipeline.containers.labels import INPUTS, container_name, labels
from pipeline.containers.running import end, find
from pipeline.exit_codes import DONE, KILLED, NEVER_RETRIED, NOT_PROMOTED, BadConfiguration
from pipeline.orchestration.container_environment import checkout_environment, container_environment
from pipeline.orchestration.container_mounts import DOOR, checkout_mounts, mounts, prepare, socket_group, user_of
from pipeline.orchestration.exit_status import raise_for_exit_code, told
from pipeline.orchestration.inputs import inputs_digest
from pipeline.orchestration.location import checkout, home, run_record, workspace_folder
from pipeline.orchestration.process import task_identity
from pipeline.orchestration.resources import Resources, resources

PIDS = 1024
DOOR_IN_IMAGE = "/opt/warmstart/pipeline/containers/door.py"
TMP_BYTES = 2**30
SETTLED = {DONE, NOT_PROMOTED, *NEVER_RETRIED}  # an ending that another try would not change
RUNNING, ENDED, FAILED, GONE = "running", "ended", "failed", "gone"


class ContainerOperator(ResumableJobMixin, DockerOperator):
    """Run `python -m pipeline <words>` in a container, in the workspace of the run.

    Args:
        words: the command's words; templated.
        in_workspace: False only for opening and closing the run, which the checkout's code does (`WARMSTART_CHECKOUT`).

    Attributes:
        meta: resources, as `meta:` in dvc.yaml.
        reads: paths of the inputs, with `${item}` for the target.
        target: target domain of a per-target stage.
    """

    template_fields: Sequence[str] = ("words",)
    external_id_key = "container"
    ui_color = "#e0ecf4"
    meta: Mapping[str, Any] = MappingProxyType({})
    reads: Sequence[str] = ()
    target: str | None = None

    def __init__(self, *, words: Sequence[str], in_workspace: bool = True, **kwargs: Any) -> None:
        # what the container is made of is known when the task runs: nothing of it is a template, or kept as one
        super().__init__(image="", mount_tmp_dir=False, auto_remove="force", do_xcom_push=False, **kwargs)
        self.words = list(words)
        self.in_workspace = in_workspace
        self._run_id = ""

    def execute(self, context: Any) -> Any:
        """Run the command, or go on with what an earlier try left running; act on the exit code."""
        self._run_id = context["run_id"]
        with told(self):
            self._client = engine.connect()
            self._resources = resources(self.meta)
            self._image = self._pinned_image()
            self._inputs = inputs_digest(self._folder, self.words, self.reads, self.target, self._image)
            return self.execute_resumable(context)

    @property
    def cli(self) -> Any:
        return self._client

    def submit_job(self, context: Any) -> str:
        """Start the container; or adopt the one that works already, if its worker died before it could say so."""
        for known in self._known():
            if self.get_job_status(known["Id"], context) in (RUNNING, ENDED):
                self.log.info("adopting container %s", known["Id"][:12])
                return str(known["Id"])
            self.log.info("ending container %s of an earlier try: it does other work, or has failed", known["Id"][:12])
            end(self.cli, known["Id"])
        prepare(home(), self._folder if self.in_workspace else None)
        return self._start(context.get("ti"))

    def get_job_status(self, external_id: Any, context: Any) -> str:
        """`running` and `ended` can be gone on with; `failed` and `gone` need another container."""
        try:
            about = self.cli.inspect_container(external_id)
        except NotFound:
            return GONE
        if about["Config"]["Labels"].get(INPUTS) != self._inputs:
            return FAILED
        state = about["State"]
        if state["Running"]:
            return RUNNING
        settled = state["Status"] == "exited" and state["ExitCode"] in SETTLED
        return ENDED if settled else FAILED

    def is_job_active(self, status: str) -> bool:
        return status == RUNNING

    def is_job_succeeded(self, status: str) -> bool:
        return status == ENDED

    def poll_until_complete(self, external_id: Any, context: Any) -> None:
        """Copy the container's log from its first line on, wait for its end, act on its exit code."""
        try:
            for line in _lines(self.cli.logs(external_id, stream=True, follow=True)):
                self.log.info("%s", line)
            self.cli.wait(external_id, timeout=None)
            state = self.cli.inspect_container(external_id)["State"]
        except (NotFound, APIError) as fault:
            raise AirflowException(f"container {external_id[:12]} was taken away while it worked: {fault}") from fault
        end(self.cli, external_id)
        code = state["ExitCode"]
        if state["OOMKilled"]:
            what = "the container" if code in (KILLED, -9) else "a process in the container"
            self.log.error("%s", self._resources.out_of_memory(what))
        raise_for_exit_code(code, self.task_id)

    def get_job_result(self, external_id: Any, context: Any) -> None:
        """Of a container that ended while no worker watched; one that was watched has told its end."""
        if self.get_job_status(external_id, context) != GONE:
            self.poll_until_complete(external_id, context)

    def on_kill(self) -> None:
        """End the container: marked failed, cleared, or out of time."""
        if self._run_id:
            # a client of its own: the other one is in the middle of reading the log
            client = engine.connect()
            for known in find(client, home(), self._run_id, self._address):
                self.log.info("ending container %s", known["Id"][:12])
                end(client, known["Id"])

    @property
    def _folder(self) -> Path:
        return workspace_folder(self._run_id) if self.in_workspace else checkout()

    @property
    def _address(self) -> str:
        return self.words[-1] if self.in_workspace else str(self.task_id)

    def _known(self) -> list[dict[str, Any]]:
        return find(self.cli, home(), self._run_id, self._address)

    def _pinned_image(self) -> str:
        """The digest that was pinned when the run was opened: a rerun of an old run uses the old image."""
        wanted = self._resources.image
        pinned = (run_record(self._folder).get("images") or {}).get(wanted) if self.in_workspace else None
        reference = pinned or engine.pin_image(self.cli, wanted)
        lock = hashlib.sha256((self._folder / "requirements" / "stages.txt").read_bytes()).hexdigest()
        engine.refuse_other_lock(self.cli, reference, lock)
        return reference

    def _start(self, ti: Any) -> str:
        wanted = self._resources
        with_gpus = self._gpus(wanted)
        attempt = ti.try_number if ti is not None else 1
        name = container_name(home(), self._run_id, self._address, attempt)
        try:
            return self._start_with(name, attempt, ti, with_gpus)
        except APIError as fault:
            if not (with_gpus and "could not select device driver" in str(fault)):
                raise
        # it was made and could not be started: nothing has run
        end(self.cli, name)
        if wanted.gpus != "auto":
            raise BadConfiguration(
                f"{self._address} asks for {wanted.gpus} GPU(s), and the Docker engine has no driver for them: install "
                "the NVIDIA Container Toolkit there, or write `gpus: auto` under its meta in dvc.yaml"
            )
        self.log.warning("the Docker engine has no driver for GPUs: %s runs on the CPU (gpus: auto)", self._address)
        return self._start_with(name, attempt, ti, 0)

    def _gpus(self, wanted: Resources) -> int:
        there = engine.host_gpus(self.cli)
        if there is None:
            return 1 if wanted.gpus == "auto" else wanted.gpus
        if wanted.gpus == "auto":
            if not there:
                self.log.info("no GPU on this machine: %s runs on the CPU (gpus: auto)", self._address)
            return min(there, 1)
        if wanted.gpus > there:
            raise BadConfiguration(
                f"{self._address} asks for {wanted.gpus} GPU(s), and this machine has {there}: run it where there are, "
                "or write `gpus: auto` under its meta in dvc.yaml"
            )
        return wanted.gpus

    def _way_out(self, command: list[str]) -> tuple[str, list[str]]:
        """The container's network, and the command with the door to MLflow before it where there is no network."""
        named, door = os.environ.get("WARMSTART_DOCKER_NETWORK"), os.environ.get(DOOR)
        if named or not door or self._resources.network == "outside":
            return named or "host", command
        port = urlsplit(os.environ["MLFLOW_TRACKING_URI"]).port
        return "none", ["python", "-IS", DOOR_IN_IMAGE, "out", door, str(port), *command]

    def _start_with(self, name: str, attempt: int, ti: Any, gpus: int) -> str:
        wanted = self._resources
        command = ["python", "-m", "pipeline", *self.words]
        uid, gid = user_of(home())
        group = socket_group()
        variables = container_environment(os.environ) | task_identity(ti) | {"WARMSTART_IMAGE": self._image}
        if self.in_workspace:
            binds = mounts(home(), self._folder)
            network, command = self._way_out(command)
        else:
            variables |= checkout_environment(os.environ)
            binds = checkout_mounts(home(), self._folder)
            network = os.environ["WARMSTART_LIFECYCLE_NETWORK"]
        made = self.cli.create_container(
            image=self._image,
            command=command,
            name=name,
            labels=labels(home(), self._run_id, self._address, attempt, self._inputs),
            environment=variables,
            working_dir=str(self._folder),
            user=f"{uid}:{gid}",
            host_config=self.cli.create_host_config(
                mounts=binds,
                tmpfs={"/tmp": f"rw,nosuid,nodev,mode=1777,size={TMP_BYTES}"},
                read_only=True,
                network_mode=network,
                mem_limit=wanted.memory,
                memswap_limit=wanted.memory,
                nano_cpus=int(wanted.cpus * 1e9),
                pids_limit=PIDS,
                shm_size=wanted.shm,
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                group_add=[str(group)] if group else None,
                device_requests=[DeviceRequest(count=gpus, capabilities=[["gpu"]])] if gpus else None,
                log_config={"Type": "json-file", "Config": {"max-size": "50m", "max-file": "2"}},
            ),
        )
        self.cli.start(made["Id"])
        self.log.info("container %s (%s) from %s", name, made["Id"][:12], self._image)
        return str(made["Id"])


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Whole lines out of a log's pieces."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode(errors="replace").rstrip() for line in whole)
    if rest:
        yield rest.decode(errors="replace").rstrip()
