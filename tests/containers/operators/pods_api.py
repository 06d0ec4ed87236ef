"""A pods API on the loopback interface that runs every pod as a container: pods are executed, not only looked at.

What KubernetesPodOperator asks of a cluster, and no more: create, list by labels, read, patch labels, log, delete. A
pod is first held to Kubernetes' own schema, as a cluster would.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kubernetes_validate
import yaml
from docker.errors import APIError
from docker.types import Mount

from pipeline.containers.running import end

VERSION = "1.34"
PATH = re.compile(r"/api/v1/namespaces/(?P<namespace>[^/]+)/(?P<kind>pods|events)(/(?P<name>[^/]+))?(/(?P<part>log))?")
UNITS = {"": 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


class Cluster:
    """Pods, and what they refer to.

    Args:
        client: of the Docker engine.
        claims: folder behind every PersistentVolumeClaim.
        secrets: values by (secret, key).
    """

    def __init__(self, client: Any, claims: Mapping[str, Path], secrets: Mapping[tuple[str, str], str]) -> None:
        self.client, self.claims, self.secrets = client, claims, secrets
        self.pods: dict[str, dict[str, Any]] = {}
        self.created: list[dict[str, Any]] = []
        self.watched = 0  # how often somebody has begun to follow a log

    def create(self, pod: dict[str, Any], namespace: str) -> dict[str, Any]:
        """Start a pod.

        Raises:
            ValueError: it is not valid.
        """
        pod = {**pod, "apiVersion": "v1", "kind": "Pod"}
        kubernetes_validate.validate(pod, VERSION, strict=True)
        about = pod["metadata"]
        about |= {"namespace": namespace, "uid": f"uid-{len(self.created)}", "resourceVersion": "1"}
        about["creationTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if about["name"] in self.pods:
            raise ValueError(f"pod {about['name']} is there already")
        self.created.append(pod)
        self.pods[about["name"]] = {"pod": pod, "container": self._start(pod)}
        return self.view(about["name"])

    def _start(self, pod: dict[str, Any]) -> str:
        spec = pod["spec"]
        (container,) = spec["containers"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        binds, tmpfs = [], {}
        for mount in container["volumeMounts"]:
            volume = volumes[mount["name"]]
            if "emptyDir" in volume:
                tmpfs[mount["mountPath"]] = f"mode=1777,size={int(quantity(volume['emptyDir']['sizeLimit']))}"
            else:
                folder = self.claims[volume["persistentVolumeClaim"]["claimName"]]
                binds.append(Mount(mount["mountPath"], str(folder), type="bind"))
        limits = container["resources"]["limits"]
        user = spec["securityContext"]
        made = self.client.create_container(
            container["image"],
            command=container["args"],
            working_dir=container["workingDir"],
            environment={variable["name"]: self._value(variable) for variable in container["env"]},
            user=f"{user['runAsUser']}:{user['runAsGroup']}",
            host_config=self.client.create_host_config(
                mounts=binds,
                tmpfs=tmpfs,
                network_mode="none",
                read_only=container["securityContext"]["readOnlyRootFilesystem"],
                cap_drop=container["securityContext"]["capabilities"]["drop"],
                security_opt=["no-new-privileges"],
                mem_limit=int(quantity(limits["memory"])),
                nano_cpus=int(quantity(limits["cpu"]) * 1e9),
            ),
        )
        self.client.start(made["Id"])
        return str(made["Id"])

    def _value(self, variable: dict[str, Any]) -> str:
        if "valueFrom" not in variable:
            return str(variable.get("value", ""))
        reference = variable["valueFrom"]["secretKeyRef"]
        return self.secrets[reference["name"], reference["key"]]

    def view(self, name: str) -> dict[str, Any]:
        """A pod with its status."""
        known = self.pods[name]
        state = self.client.inspect_container(known["container"])["State"]
        if state["Running"]:
            phase, now = "Running", {"running": {"startedAt": state["StartedAt"]}}
        else:
            why = "OOMKilled" if state["OOMKilled"] else "Completed" if state["ExitCode"] == 0 else "Error"
            phase = "Failed" if state["ExitCode"] else "Succeeded"
            now = {
                "terminated": {
                    "exitCode": state["ExitCode"], "reason": why,
                    "startedAt": state["StartedAt"], "finishedAt": state["FinishedAt"],
                }
            }  # fmt: skip
        (container,) = known["pod"]["spec"]["containers"]
        about = {
            "name": container["name"],
            "image": container["image"],
            "imageID": container["image"],
            "restartCount": 0,
        }
        return {
            **known["pod"],
            "status": {"phase": phase, "containerStatuses": [{**about, "ready": phase == "Running", "state": now}]},
        }

    def matching(self, selector: str) -> list[dict[str, Any]]:
        """Pods with these labels: `a=b`, `a!=b`, `!a`."""
        return [
            self.view(name)
            for name, known in list(self.pods.items())
            if all(_has(known["pod"]["metadata"]["labels"], term) for term in selector.split(",") if term)
        ]

    def delete(self, name: str) -> dict[str, Any]:
        """End a pod."""
        seen = self.view(name)
        end(self.client, self.pods.pop(name)["container"])
        return seen


def quantity(text: str) -> float:
    """A Kubernetes quantity as a number.

    Raises:
        ValueError: it is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(m|Ki|Mi|Gi|)", text)
    if match is None:
        raise ValueError(f"{text!r} is no quantity")
    return float(match[1]) * UNITS[match[2]]


def _has(labels: Mapping[str, str], term: str) -> bool:
    if term.startswith("!"):
        return term[1:] not in labels
    if "!=" in term:
        name, value = term.split("!=")
        return labels.get(name) != value
    name, value = term.split("=")
    return labels.get(name) == value


@contextmanager
def serving(cluster: Cluster, kubeconfig: Path) -> Iterator[None]:
    """Serve `cluster` for the body, and write the kubeconfig that leads there."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            return

        def answer(self) -> None:
            address = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(address.query).items()}
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else {}
            found = PATH.fullmatch(address.path)
            if found is None:
                return self.tell(404, {"kind": "Status", "code": 404, "message": address.path})
            name = found["name"]
            if found["kind"] == "events":
                return self.tell(200, {"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": []})
            if name is None and self.command == "POST":
                try:
                    return self.tell(201, cluster.create(body, found["namespace"]))
                except (ValueError, KeyError, APIError, kubernetes_validate.ValidationError) as fault:
                    return self.tell(422, {"kind": "Status", "code": 422, "message": repr(fault)})
            if name is None:
                items = cluster.matching(asked.get("labelSelector", ""))
                return self.tell(200, {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items})
            if name not in cluster.pods:
                return self.tell(404, {"kind": "Status", "code": 404, "message": f"no pod {name}"})
            if found["part"] == "log":
                return self.log(name, asked)
            if self.command == "DELETE":
                return self.tell(200, cluster.delete(name))
            if self.command == "PATCH":
                cluster.pods[name]["pod"]["metadata"]["labels"].update(body["metadata"]["labels"])
            return self.tell(200, cluster.view(name))

        def log(self, name: str, asked: Mapping[str, str]) -> None:
            cluster.watched += 1
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Connection", "close")
            self.end_headers()
            wanted = {
                "follow": asked.get("follow") in ("true", "True"),
                "timestamps": asked.get("timestamps") in ("true", "True"),
            }
            for piece in cluster.client.logs(cluster.pods[name]["container"], stream=True, **wanted):
                self.wfile.write(piece)
            self.close_connection = True

        def tell(self, code: int, content: Mapping[str, Any]) -> None:
            text = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    cluster_entry = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}
    kubeconfig.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [cluster_entry],
                "users": [{"name": "u", "user": {"token": "t"}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            }
        )
    )  # fmt: skip
    try:
        yield
    finally:
        for name in list(cluster.pods):
            cluster.delete(name)
        server.shutdown()
