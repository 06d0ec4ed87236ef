"""Every stage's pod as a cluster would get it: held to Kubernetes' schema, and to what the schema does not know."""

from __future__ import annotations

import re
from pathlib import Path

import kubernetes_validate
import pytest
from kubernetes.client import ApiClient

from pipeline.graph import load_graph
from pipeline.orchestration.container_environment import checkout_environment, container_environment, is_secret
from pipeline.orchestration.pod_spec import pod_name, stage_pod
from pipeline.orchestration.resources import resources

CHECKOUT = Path(__file__).resolve().parents[2]
GRAPH = load_graph(CHECKOUT / "dvc.yaml")
QUANTITY = re.compile(r"\d+(\.\d+)?(m|Ki|Mi|Gi|)")
LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
ENVIRONMENT = {
    "WARMSTART_HOME": "/home",
    "WARMSTART_DATABASE_URL": "postgresql://me:canary-1@db/postgres",
    "MLFLOW_TRACKING_URI": "http://mlflow:5000",
    "MLFLOW_TRACKING_PASSWORD": "canary-2",
    "SHOP_LOGIN": "canary-3",
    "WARMSTART_PASS": "SHOP_LOGIN",
    "AIRFLOW__CORE__FERNET_KEY": "canary-4",
    "WARMSTART_AIRFLOW_PASSWORD": "canary-5",
    "HOME": "/root",
}


def spec_of(stage: str, besides: dict[str, str] | None = None, **environment: str) -> dict:
    pod = stage_pod(
        name=pod_name(f"warmstart-1a2b-manual__2026-01-01T00:00:00+00:00-{stage}-1"),
        image="registry/warmstart-stage@sha256:0123",
        words=["workspace", "stage", stage],
        folder=Path("/home/runs/r"),
        home=Path("/home"),
        wanted=resources(GRAPH.stages[stage].meta),
        inherited={**ENVIRONMENT, **environment},
        besides=besides or {},
        task={"WARMSTART_TASK": "{}"},
        inputs="0" * 64,
        seconds=3600,
    )
    found: dict = ApiClient().sanitize_for_serialization(pod)
    return found


@pytest.mark.parametrize("stage", GRAPH.stages)
def test_every_stages_pod_is_valid(stage):
    pod = spec_of(stage, WARMSTART_K8S_GPUS="1")
    kubernetes_validate.validate(pod, "1.34", strict=True)
    spec = pod["spec"]
    (container,) = spec["containers"]
    assert spec["restartPolicy"] == "Never"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
    resource = container["resources"]
    assert resource["requests"] == resource["limits"]
    assert all(QUANTITY.fullmatch(amount) for amount in resource["limits"].values())
    assert all(QUANTITY.fullmatch(v["emptyDir"]["sizeLimit"]) for v in spec["volumes"] if "emptyDir" in v)
    assert re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", pod["metadata"]["name"])
    assert all(
        re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", v) for v in pod["metadata"]["labels"].values()
    )
    wants_gpu = "gpus" in GRAPH.stages[stage].meta
    assert ("nvidia.com/gpu" in resource["limits"]) == wants_gpu == ("tolerations" in spec)


def test_a_pod_has_no_right_and_no_root():
    spec = spec_of("pretrain")["spec"]
    (container,) = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "privileged": False,
        "readOnlyRootFilesystem": True,
    }


def test_secrets_are_references_and_what_is_not_a_stages_stays_outside():
    pod = spec_of("pretrain")
    assert "canary" not in str(pod)
    (container,) = pod["spec"]["containers"]
    by_name = {variable["name"]: variable for variable in container["env"]}
    secret = {"WARMSTART_DATABASE_URL", "MLFLOW_TRACKING_PASSWORD", "SHOP_LOGIN"}
    assert {name for name, variable in by_name.items() if "valueFrom" in variable} == secret
    assert by_name["MLFLOW_TRACKING_URI"]["value"] == "http://mlflow:5000"
    assert {"AIRFLOW__CORE__FERNET_KEY", "WARMSTART_AIRFLOW_PASSWORD", "HOME"} & set(by_name) == set()


def test_a_containers_environment_is_an_allow_list():
    assert "AIRFLOW__CORE__FERNET_KEY" not in container_environment(ENVIRONMENT)
    assert is_secret("AWS_SECRET_ACCESS_KEY", "x", {})
    assert not is_secret("WARMSTART_HOME", "/home", {})


@pytest.mark.parametrize(
    ("meta", "sentence"),
    [
        ({"memory": "4 GB"}, "meta.memory is '4 GB'; write it as 512m or 8g"),
        ({"gpus": "all"}, "meta.gpus is 'all'; write a number or auto"),
        ({"cpus": 0}, "meta.cpus is 0"),
    ],
)
def test_resources_that_mean_nothing_are_refused(meta, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        resources(meta)


def test_a_pod_that_opens_runs_reads_anothers_checkout_and_asks_airflow_by_a_reference():
    pod = spec_of("snapshot", besides=checkout_environment(ENVIRONMENT))
    (container,) = pod["spec"]["containers"]
    given = {variable["name"]: variable for variable in container["env"]}
    assert (given["GIT_CONFIG_KEY_0"]["value"], given["GIT_CONFIG_VALUE_0"]["value"]) == ("safe.directory", "*")
    assert given["WARMSTART_AIRFLOW_PASSWORD"]["valueFrom"]["secretKeyRef"]["key"] == "WARMSTART_AIRFLOW_PASSWORD"
    assert "canary" not in str(pod)


def test_nodes_are_chosen_by_the_clusters_owner():
    assert spec_of("pretrain", WARMSTART_K8S_NODE_SELECTOR="disk=ssd,zone=a")["spec"]["nodeSelector"] == {
        "disk": "ssd", "zone": "a",
    }  # fmt: skip
