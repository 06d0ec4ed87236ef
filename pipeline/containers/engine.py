"""The Docker engine and its images. What is missing is told in a sentence before anything is started.

Both environments import this; `docker` itself is imported when an engine is asked for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline.exit_codes import BadConfiguration, PassingFault

SOCKET = "unix:///var/run/docker.sock"
IMAGES = {"stage": "warmstart-stage:cpu"}
LOCK_LABEL = "warmstart.lock"


def connect(seconds: float = 60) -> Any:
    """A client (`docker.APIClient`) of the engine that `DOCKER_HOST` names.

    Raises:
        PassingFault: no engine answers there.
    """
    from docker.api import APIClient
    from docker.errors import DockerException
    from docker.utils import kwargs_from_env

    given = {"base_url": SOCKET, **kwargs_from_env()}
    try:
        client = APIClient(**given, version="auto", timeout=seconds)
        client.ping()
    except (DockerException, OSError) as fault:
        raise PassingFault(
            f"no Docker engine answers at {given['base_url']} ({fault}): start it, name another with DOCKER_HOST, or "
            "run the stages as processes with WARMSTART_RUNTIME=process"
        ) from fault
    return client


def image_name(image: str) -> str:
    """The reference of the image `stage`: `WARMSTART_IMAGE_STAGE`, or the one that `make images` builds."""
    return os.environ.get(f"WARMSTART_IMAGE_{image.upper()}") or IMAGES.get(image, f"warmstart-{image}:cpu")


def image_by_digest(image: str) -> str:
    """The reference of an image where there is no engine to ask what a name means.

    Raises:
        BadConfiguration: it has no digest.
    """
    name = image_name(image)
    if "sha256:" not in name:
        raise BadConfiguration(
            f"image {name} may mean another one tomorrow: name it with its digest in WARMSTART_IMAGE_{image.upper()}, "
            "registry/name@sha256:…"
        )
    return name


def pin_image(client: Any, image: str) -> str:
    """The digest that the name of an image means now: a registry's, or the engine's own for one that was built here.

    Raises:
        BadConfiguration: the engine does not have it.
    """
    about = inspect_image(client, image_name(image))
    digests = about.get("RepoDigests") or []
    return str(digests[0] if digests else about["Id"])


def inspect_image(client: Any, reference: str) -> dict[str, Any]:
    """What the engine knows of an image.

    Raises:
        BadConfiguration: it does not have it.
    """
    from docker.errors import ImageNotFound

    try:
        found: dict[str, Any] = client.inspect_image(reference)
    except ImageNotFound as fault:
        how = (
            "bring that very image back (docker pull or docker load)" if "sha256:" in reference else "run `make images`"
        )
        raise BadConfiguration(
            f"the Docker engine has no image {reference}: {how}, or name another with WARMSTART_IMAGE_STAGE"
        ) from fault
    return found


def refuse_other_lock(client: Any, reference: str, lock: str) -> None:
    """An image made from other requirements would make other results under the same manifest.

    Args:
        lock: sha256 of the commit's requirements/stages.txt.

    Raises:
        BadConfiguration: the image's label names another one.
    """
    label = (inspect_image(client, reference)["Config"].get("Labels") or {}).get(LOCK_LABEL)
    if label and label != lock:
        raise BadConfiguration(
            f"image {reference} was built from other requirements ({LOCK_LABEL} {label[:12]}) than the run's "
            f"commit has ({lock[:12]}): run `make images` at that commit"
        )


def host_gpus(client: Any) -> int | None:
    """How many GPUs NVIDIA's driver has on the engine's machine; None where the engine is on another one."""
    if urlsplit(client.base_url).hostname not in ("localhost", "127.0.0.1"):  # a unix socket counts as localhost
        return None
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
