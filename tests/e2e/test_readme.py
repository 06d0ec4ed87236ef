"""The README's commands, as they stand there."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.settings import CHECKOUT
from pipeline.stack.processes import marked
from tests.e2e.conftest import as_people_type, run_command

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


def test_the_readmes_commands_work(night, second, tmp_path):
    """All of them but this very suite. The last one stops the stack."""
    asked = [command for command in commands() if command != "make test"]
    assert (asked[0], asked[-1]) == ("make run", "make down")
    shown = {"make run": second.shown}
    for command in asked[1:]:
        shown[command] = run_command(_where_data_is(command, tmp_path), as_people_type())
    for table in (text for command, text in shown.items() if command.startswith("make run")):
        assert "NDCG@10" in table
        assert "rec-harbour version" in table
        assert str(night.settings.airflow_port) in table
    assert not marked(str(night.settings.home))


def _where_data_is(command: str, scratch: Path) -> str:
    # what a person writes into a folder of their own, the test writes into its scratch folder
    return command.replace("my-world", str(scratch / "my-world"))
