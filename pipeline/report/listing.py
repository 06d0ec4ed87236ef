"""All runs on one page, the newest first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.report import words
from pipeline.report.page import HERE, PAGE, POLICY

SHOWN = 200  # a reader looks at the last few; each costs opening a file or three


def render_listing(home: Path) -> str:
    """A table of the newest runs under a home, each with a link to its page at `<run>/run.html`."""
    folders = {folder.name: folder for folder in _runs_in(home / "runs")}
    # the record of an open run holds no more than the attempts at opening it
    closed = (folder for folder in _runs_in(home / "records") if (folder / "run.yaml").is_file())
    folders = {folder.name: folder for folder in _runs_in(home / "records")} | folders
    folders |= {folder.name: folder for folder in closed}
    newest = sorted(folders.values(), key=_opened, reverse=True)
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"moment": words.moment}
    return environment.get_template("runs.html.j2").render(
        policy=POLICY,
        style=Markup((HERE / "run.css").read_text("utf-8")),
        page=PAGE,
        runs=[_row(folder) for folder in newest[:SHOWN]],
        more=len(newest) - SHOWN,
    )


def _runs_in(base: Path) -> list[Path]:
    return [folder for folder in base.glob("[!.]*") if folder.is_dir()]


def _opened(folder: Path) -> tuple[str, str]:
    # run ids end with their moment: `scheduled__2026-01-01T02-00-00-00-00`
    return folder.name.partition("__")[2], folder.name


def _row(folder: Path) -> dict[str, Any]:
    path = folder / "run.yaml"
    run = (yaml.safe_load(path.read_text()) if path.is_file() else None) or {}
    state = "open" if run and "closed" not in run else "finished" if run.get("finished") else "failed"
    verdicts = {}
    for receipt in sorted(folder.glob("receipts/register/*/receipt.json")):
        verdicts[receipt.parent.name] = json.loads(receipt.read_text()).get("verdict", "")
    return {"name": folder.name, "run": run, "state": state, "verdicts": verdicts}
