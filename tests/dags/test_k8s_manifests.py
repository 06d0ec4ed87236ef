"""docker/k8s: valid for a cluster, least privilege, and it fits the pods that the operator makes."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from tests.dags.test_pod_spec import spec_of

CHECKOUT = Path(__file__).resolve().parents[2]
DOCUMENTS = list(yaml.safe_load_all((CHECKOUT / "docker" / "k8s" / "stages.yaml").read_text()))


def the(kind: str) -> dict:
    (found,) = [document for document in DOCUMENTS if document["kind"] == kind]
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["kind"])
def test_it_is_valid(document):
    kubernetes_validate.validate(document, "1.34", strict=True)


def test_a_worker_may_handle_pods_of_one_namespace_and_nothing_else():
    role = the("Role")
    assert the("RoleBinding")["roleRef"]["name"] == role["metadata"]["name"]
    allowed = {resource for rule in role["rules"] for resource in rule["resources"]}
    assert allowed == {"pods", "pods/log", "events"}
    assert not any("*" in rule["verbs"] for rule in role["rules"])
    assert {document["kind"] for document in DOCUMENTS} & {"ClusterRole", "ClusterRoleBinding"} == set()


def test_the_charts_values_are_about_the_same_things():
    values = yaml.safe_load((CHECKOUT / "docker" / "k8s" / "airflow-values.yaml").read_text())
    (subject,) = the("RoleBinding")["subjects"]
    assert subject["name"] == values["scheduler"]["serviceAccount"]["name"]
    (volume,) = values["scheduler"]["extraVolumes"]
    assert volume["persistentVolumeClaim"]["claimName"] == the("PersistentVolumeClaim")["metadata"]["name"]
    environment = {variable["name"]: variable["value"] for variable in values["env"]}
    (mount,) = values["scheduler"]["extraVolumeMounts"]
    assert (environment["WARMSTART_RUNTIME"], environment["WARMSTART_HOME"]) == ("kubernetes", mount["mountPath"])
    assert not any("PASSWORD" in name or "SECRET" in name for name in environment)
    assert values["allowPodLaunching"] is False  # the chart's role for it allows pods/exec


def test_the_stages_pods_are_those_that_the_documents_speak_of():
    values = yaml.safe_load((CHECKOUT / "docker" / "k8s" / "airflow-values.yaml").read_text())
    pod = spec_of("pretrain", **{variable["name"]: variable["value"] for variable in values["env"]})
    spec = pod["spec"]
    assert pod["metadata"]["namespace"] == the("Namespace")["metadata"]["name"]
    assert spec["serviceAccountName"] == the("ServiceAccount")["metadata"]["name"]
    assert spec["priorityClassName"] == the("PriorityClass")["metadata"]["name"]
    claims = [v["persistentVolumeClaim"]["claimName"] for v in spec["volumes"] if "persistentVolumeClaim" in v]
    assert claims == [the("PersistentVolumeClaim")["metadata"]["name"]]
    selected = the("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]
    assert selected.items() <= pod["metadata"]["labels"].items()
    assert the("NetworkPolicy")["spec"]["ingress"] == []
    servers, names = the("NetworkPolicy")["spec"]["egress"]
    assert {port["port"] for port in servers["ports"]} == {5432, 5000, 6379}
    assert {port["port"] for port in names["ports"]} == {53}
    assert spec["terminationGracePeriodSeconds"] > 0
    assert spec["activeDeadlineSeconds"] == 3600


def test_the_database_is_made_with_the_pool_that_stages_wait_for():
    values = yaml.safe_load((CHECKOUT / "docker" / "k8s" / "airflow-values.yaml").read_text())
    system = yaml.safe_load((CHECKOUT / "docker" / "compose.yaml").read_text())
    migrations = [values["migrateDatabaseJob"]["args"], system["services"]["airflow-migrate"]["command"]]
    assert all("pipeline.stack.airflow_migrate" in command for command in migrations)
