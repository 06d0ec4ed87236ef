"""The README's commands, as they stand there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from pipeline.settings import CHECKOUT
from pipeline.stack.processes import marked
from tests.e2e.conftest import TINY

README = (CHECKOUT / "README.md").read_text()


def commands() -> list[str]:
    """Every line of the README's console blocks, in order, without comments."""
    blocks = re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    return [line.split("  #")[0].strip() for line in lines]


def test_the_readme_names_the_commands_that_exist():
    makefile = (CHECKOUT / "Makefile").read_text()
    for target in set(re.findall(r"`make ([a-z-]+)", README)):
        if target.startswith("bench-"):
            assert (CHECKOUT / "benchmarks" / f"{target.removeprefix('bench-')}.py").exists(), f"make {target}"
        else:
            assert re.search(rf"^([a-z ]+ )?{target}[a-z ]*:", makefile, re.MULTILINE), f"make {target}"
    ci = (CHECKOUT / ".ci" / "run").read_text()
    assert "make lint" in ci
    assert "make test" in ci


def test_every_link_of_the_readme_leads_somewhere():
    for link in re.findall(r"\]\(([^)]+)\)", README):
        path, _, anchor = link.partition("#")
        text = (CHECKOUT / path).read_text()
        headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        assert not anchor or anchor in [heading.lower().replace(" ", "-") for heading in headings], link


def test_the_readmes_commands_work(night, first, tmp_path):
    """All of them; `make run` on the tiny world and with few epochs, to stay short. The last one stops the stack."""
    environment = os.environ | {
        # make takes its options from the environment where the command line does not give them
        "DATA": TINY["data"], "AS_OF": TINY["as_of"], "SET": " ".join(TINY["overrides"]),
    }  # fmt: skip
    environment.pop("MAKEFLAGS", None)
    ran = []
    for command in commands():
        if command == "make test":  # this very suite
            continue
        shown = _run(_where_data_is(command, tmp_path), environment)
        ran.append(command)
        if command.startswith("make run"):
            assert "NDCG@10" in shown
            assert "rec-harbour version" in shown
            assert str(night.settings.airflow_port) in shown
    assert ran[0] == "make run"
    assert ran[-1] == "make down"
    assert not marked(str(night.settings.home))


def _where_data_is(command: str, scratch: Path) -> str:
    # what a person writes into a folder of their own, the test writes into its scratch folder
    return command.replace("my-world", str(scratch / "my-world"))


def _run(command: str, environment: dict[str, str]) -> str:
    done = subprocess.run(
        shlex.split(command), cwd=CHECKOUT, env=environment, capture_output=True, text=True, timeout=600
    )
    if done.returncode:
        pytest.fail(f"{command} ended with {done.returncode}:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout
