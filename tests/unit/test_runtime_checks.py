"""A runtime that cannot run anything is refused in words before a server is started for it."""

from __future__ import annotations

import pytest

from pipeline.exit_codes import BadConfiguration, PassingFault
from pipeline.stack import containers
from pipeline.stack.check import ERROR, OK
from pipeline.stack.containers import refuse_unready_runtime, runtime
from tests.stack_fixture import stack_settings


def test_processes_need_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    [check] = runtime(stack_settings(tmp_path))
    assert (check.level, check.found) == (OK, "process")


def test_without_an_engine(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    settings = stack_settings(tmp_path, runtime="docker")
    with pytest.raises(PassingFault, match=r"no Docker engine answers at .*nowhere.*WARMSTART_RUNTIME=process"):
        refuse_unready_runtime(settings)
    [check] = runtime(settings)
    assert check.level == ERROR


def test_gpus_that_are_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr(containers, "connect", lambda seconds: None)
    monkeypatch.setattr(containers, "inspect_image", lambda client, name: None)
    there: list[int | None] = [0]
    monkeypatch.setattr(containers, "host_gpus", lambda client: there[0])
    settings = stack_settings(tmp_path, runtime="docker")
    refuse_unready_runtime(settings)  # `gpus: auto` everywhere
    monkeypatch.setattr(containers, "CHECKOUT", tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages:\n  train: {cmd: x, outs: [a], meta: {gpus: 2}}\n")
    with pytest.raises(BadConfiguration, match=r"train asks for 2 GPU\(s\), and this machine has 0.*gpus: auto"):
        refuse_unready_runtime(settings)
    there[0] = None  # an engine elsewhere tells when it starts the container
    refuse_unready_runtime(settings)


def test_a_cluster_needs_an_image_with_a_digest(tmp_path, monkeypatch):
    settings = stack_settings(tmp_path, runtime="kubernetes")
    monkeypatch.setenv("WARMSTART_IMAGE_STAGE", "registry/warmstart-stage:latest")
    with pytest.raises(BadConfiguration, match="name it with its digest"):
        refuse_unready_runtime(settings)
    monkeypatch.setenv("WARMSTART_IMAGE_STAGE", "registry/warmstart-stage@sha256:0123")
    refuse_unready_runtime(settings)
