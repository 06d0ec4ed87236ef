"""What a container sees of this machine, and whose work it does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from pipeline.orchestration.container_mounts import mounts, prepare, user_of
from pipeline.orchestration.inputs import inputs_digest


@pytest.fixture
def home(tmp_path):
    workspace = tmp_path / "home" / "runs" / "r"
    workspace.mkdir(parents=True)
    (workspace / "run.yaml").write_text("commit: c0ffee\n")
    (workspace / "params.yaml").write_text("data: world:tiny\n")
    (workspace / "dvc.lock").write_text(
        yaml.safe_dump(
            {"stages": {"f": {"outs": [{"path": "data/training", "md5": "1"}, {"path": "other", "md5": "1"}]}}}
        )
    )
    return tmp_path / "home"


def seen(home: Path) -> dict[str, bool]:
    """Path -> may it be written, of every mount."""
    prepare(home, home / "runs" / "r")
    found = mounts(home, home / "runs" / "r")
    assert all(mount["Source"] == mount["Target"] for mount in found)
    return {mount["Source"]: not mount["ReadOnly"] for mount in found}


def test_the_workspace_and_the_stores_are_written_and_nothing_else(home, monkeypatch):
    sockets = home / "run" / "postgres"
    sockets.mkdir(parents=True)
    (home / "secrets").mkdir()
    (home / "secrets" / "airflow_keys.json").touch()
    (home / "secrets" / "user_id.key").touch()
    monkeypatch.setenv("WARMSTART_POSTGRES_SOCKETS", str(sockets))
    written = ("runs/r", "dvc/cache", "dvc/site", "manifests", "openlineage", "stores")
    read = ("secrets/user_id.key", "run/postgres")
    assert seen(home) == {str(home / name): name in written for name in (*written, *read)}


def test_a_dataset_is_seen_with_what_it_names_outside_of_its_folder(home, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    metro = {"interactions": "../elsewhere/*.parquet", "items": "items.csv", "users": "s3://bucket/users"}
    (tmp_path / "data" / "dataset.yaml").write_text(yaml.safe_dump({"domains": {"metro": metro}}))
    (home / "runs" / "r" / "params.yaml").write_text(f"data: {tmp_path / 'data'}\n")
    found = seen(home)
    assert [path for path in found if not path.startswith(str(home))] == [
        str(tmp_path / "data"),
        str(tmp_path / "elsewhere"),
    ]
    assert not found[str(tmp_path / "data")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands its files over")
def test_what_root_has_made_becomes_the_containers_users(home):
    seen(home)
    uid, gid = user_of(home)
    assert uid != 0
    everything = [*(home / "runs" / "r").rglob("*"), *(home / "dvc").iterdir(), home / "manifests"]
    assert {(path.stat().st_uid, path.stat().st_gid) for path in everything} == {(uid, gid)}
    assert home.stat().st_uid == 0


def test_the_same_work_has_the_same_name_and_other_work_another(home):
    workspace = home / "runs" / "r"

    def name(image: str = "sha256:1", words: tuple[str, ...] = ("stage", "pretrain")) -> str:
        return inputs_digest(workspace, words, ["data/training"], None, image)

    first = name()
    (workspace / "dvc.lock").write_text((workspace / "dvc.lock").read_text().replace("path: other", "path: another"))
    assert name() == first  # what it does not read
    assert len({first, name(image="sha256:2"), name(words=("stage", "embed"))}) == 3
    for file, before, after in (("dvc.lock", "'1'", "'2'"), ("params.yaml", "tiny", "small"), ("run.yaml", "c0", "d0")):
        path = workspace / file
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after))
        assert name() != first
        first = name()
