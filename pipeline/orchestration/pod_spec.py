"""The pod of a stage, from the same `meta:` as every other runtime, and what the cluster's owner sets.

| variable | meaning |
|---|---|
| `WARMSTART_K8S_NAMESPACE` | where pods are made; `warmstart` |
| `WARMSTART_K8S_CLAIM` | the claim (ReadWriteMany) mounted at `WARMSTART_HOME` in pods and Airflow; `warmstart-home` |
| `WARMSTART_K8S_SECRET` | the Secret whose keys are the names of the variables that are secret; `warmstart` |
| `WARMSTART_K8S_SERVICE_ACCOUNT` | of the pods, without rights; `warmstart-stage` |
| `WARMSTART_K8S_GPUS` | what `gpus: auto` means here; 0 |
| `WARMSTART_K8S_NODE_SELECTOR` | labels of the nodes: `disk=ssd,zone=a` |
| `WARMSTART_K8S_PRIORITY_CLASS` | none without it |
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from kubernetes.client import models as k8s

from pipeline.orchestration.container_environment import container_environment, is_secret
from pipeline.orchestration.container_mounts import IMAGE_USER
from pipeline.orchestration.resources import Resources

CONTAINER = "stage"
GPU = "nvidia.com/gpu"
INPUTS_LABEL = "warmstart.io/inputs"
TOLERATED = k8s.V1Toleration(key=GPU, operator="Exists", effect="NoSchedule")
GRACE_SECONDS = 30
TMP_BYTES = 2**30
LONGEST_LABEL = 63


def stage_pod(
    *,
    name: str,
    image: str,
    words: Sequence[str],
    folder: Path,
    home: Path,
    wanted: Resources,
    inherited: Mapping[str, str],
    besides: Mapping[str, str] = MappingProxyType({}),
    task: Mapping[str, str],
    inputs: str,
    seconds: int | None,
) -> k8s.V1Pod:
    """The whole pod; the operator adds Airflow's labels.

    Args:
        image: by its digest.
        folder: where the command runs: the workspace, or the checkout.
        inherited: the environment of the process that asks; an allow-list of it reaches the pod.
        besides: variables that it gets in any case; the secret ones by reference, too.
        task: variables that name the task.
        inputs: names the work; a pod that does the same may be attached to again.
        seconds: after which the cluster ends it, also when nobody watches; None is never.
    """
    secret = inherited.get("WARMSTART_K8S_SECRET", "warmstart")
    variables = {**container_environment(inherited), **besides, "WARMSTART_IMAGE": image}
    given = [_variable(name, value, inherited, secret) for name, value in variables.items()]
    given += [k8s.V1EnvVar(name=name, value=value) for name, value in task.items()]
    return k8s.V1Pod(
        api_version="v1",
        kind="Pod",
        metadata=k8s.V1ObjectMeta(
            name=name,
            namespace=inherited.get("WARMSTART_K8S_NAMESPACE", "warmstart"),
            labels={"app.kubernetes.io/name": "warmstart", INPUTS_LABEL: inputs[:LONGEST_LABEL]},
        ),
        spec=k8s.V1PodSpec(
            restart_policy="Never",
            service_account_name=inherited.get("WARMSTART_K8S_SERVICE_ACCOUNT", "warmstart-stage"),
            automount_service_account_token=False,
            enable_service_links=False,
            termination_grace_period_seconds=GRACE_SECONDS,
            active_deadline_seconds=seconds,
            priority_class_name=inherited.get("WARMSTART_K8S_PRIORITY_CLASS"),
            node_selector=_pairs(inherited.get("WARMSTART_K8S_NODE_SELECTOR", "")),
            tolerations=[TOLERATED] if gpus(wanted, inherited) else None,
            security_context=k8s.V1PodSecurityContext(
                run_as_non_root=True,
                run_as_user=IMAGE_USER,
                run_as_group=IMAGE_USER,
                fs_group=IMAGE_USER,
                fs_group_change_policy="OnRootMismatch",
                seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
            ),
            volumes=[
                k8s.V1Volume(
                    name="home",
                    persistent_volume_claim=k8s.V1PersistentVolumeClaimVolumeSource(
                        claim_name=inherited.get("WARMSTART_K8S_CLAIM", "warmstart-home")
                    ),
                ),
                k8s.V1Volume(name="tmp", empty_dir=k8s.V1EmptyDirVolumeSource(size_limit=_mebibytes(TMP_BYTES))),
                k8s.V1Volume(
                    name="shm", empty_dir=k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit=_mebibytes(wanted.shm))
                ),
            ],
            containers=[
                k8s.V1Container(
                    name=CONTAINER,
                    image=image,
                    # the image's entrypoint is tini: `args` alone keeps it
                    args=["python", "-m", "pipeline", *words],
                    working_dir=str(folder),
                    env=given,
                    resources=_limits(wanted, gpus(wanted, inherited)),
                    security_context=k8s.V1SecurityContext(
                        allow_privilege_escalation=False,
                        privileged=False,
                        read_only_root_filesystem=True,
                        capabilities=k8s.V1Capabilities(drop=["ALL"]),
                    ),
                    volume_mounts=[
                        k8s.V1VolumeMount(name="home", mount_path=str(home)),
                        k8s.V1VolumeMount(name="tmp", mount_path="/tmp"),
                        k8s.V1VolumeMount(name="shm", mount_path="/dev/shm"),
                    ],
                )
            ],
        ),
    )


def pod_name(name: str) -> str:
    """A container's name (`pipeline.containers.labels`) as a pod may be called: lower case, at most 63 characters."""
    plain = re.sub(r"[^a-z0-9-]+", "-", name.lower()).strip("-")
    if len(plain) <= LONGEST_LABEL:
        return plain
    return f"{plain[: LONGEST_LABEL - 9].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def gpus(wanted: Resources, inherited: Mapping[str, str]) -> int:
    """How many GPUs a pod asks for."""
    return int(inherited.get("WARMSTART_K8S_GPUS", "0")) if wanted.gpus == "auto" else wanted.gpus


def _limits(wanted: Resources, gpu_count: int) -> k8s.V1ResourceRequirements:
    # asked for in full: a stage that was promised its memory is not evicted for want of it
    amounts = {"cpu": f"{round(wanted.cpus * 1000)}m", "memory": _mebibytes(wanted.memory)}
    amounts |= {GPU: str(gpu_count)} if gpu_count else {}
    return k8s.V1ResourceRequirements(requests=amounts, limits=amounts)


def _variable(name: str, value: str, inherited: Mapping[str, str], secret: str) -> k8s.V1EnvVar:
    if not is_secret(name, value, inherited):
        return k8s.V1EnvVar(name=name, value=value)
    reference = k8s.V1SecretKeySelector(name=secret, key=name)
    return k8s.V1EnvVar(name=name, value_from=k8s.V1EnvVarSource(secret_key_ref=reference))


def _mebibytes(size: int) -> str:
    return f"{max(1, size // 2**20)}Mi"


def _pairs(text: str) -> dict[str, str] | None:
    return dict(pair.split("=", 1) for pair in text.split(",") if pair) or None
