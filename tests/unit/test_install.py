"""`requirements/install.py`: what it tells uv, and when it has nothing to do."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

CHECKOUT = Path(__file__).parents[2]
STAGES = ["requirements/stages.txt"]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.chdir(CHECKOUT)
    spec = importlib.util.spec_from_file_location("install", CHECKOUT / "requirements" / "install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def unreachable(*_: object, **__: object) -> None:
    raise OSError("no network")


class Reached:
    def close(self) -> None: ...


def test_uv_is_told_what_pip_is_told(install: ModuleType) -> None:
    told = install.uv_environment(
        {"PIP_FIND_LINKS": "/wheels /more", "PIP_EXTRA_INDEX_URL": "https://a https://b", "VIRTUAL_ENV": "/x"}
    )
    assert told["UV_FIND_LINKS"] == "/wheels,/more"
    assert told["UV_INDEX"] == "https://a https://b"
    assert told["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert "VIRTUAL_ENV" not in told


def test_what_uv_is_told_itself_stands(install: ModuleType) -> None:
    told = install.uv_environment({"PIP_FIND_LINKS": "/wheels", "UV_FIND_LINKS": "/own"})
    assert told["UV_FIND_LINKS"] == "/own"


def test_torch_of_the_wheel_house_is_not_looked_past(install: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "torch-2.13.0+cpu-cp311-cp311-linux_x86_64.whl").touch()
    assert install.torch_backend(STAGES, {"UV_FIND_LINKS": f"/nowhere,{tmp_path}"}) == []


def test_torch_for_this_machine(install: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install.urllib.request, "urlopen", lambda *_, **__: Reached())
    assert install.torch_backend(STAGES, {}) == ["--torch-backend=auto"]
    assert install.torch_backend(["requirements/airflow.txt"], {}) == []
    assert install.torch_backend(STAGES, {"UV_NO_INDEX": "1"}) == []
    assert install.torch_backend(STAGES, {"UV_TORCH_BACKEND": "cu130"}) == []


def test_torch_without_its_index(install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(install.urllib.request, "urlopen", unreachable)
    assert install.torch_backend(STAGES, {}) == []
    assert "taking torch from the ordinary index" in capsys.readouterr().out


def test_only_a_whole_install_of_these_requirements_is_finished(install: ModuleType, tmp_path: Path) -> None:
    assert not install.is_finished(tmp_path, STAGES)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    assert not install.is_finished(tmp_path, STAGES)
    stamp = tmp_path / install.STAMP
    stamp.write_text(json.dumps(install.fingerprint(tmp_path, STAGES)))
    assert install.is_finished(tmp_path, STAGES)
    assert not install.is_finished(tmp_path, ["requirements/airflow.txt"])
    stamp.write_text("{")
    assert not install.is_finished(tmp_path, STAGES)
