"""The page of a run: what it says of runs that finished, failed and are open, whatever their names hold."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
import yaml

from pipeline.report.layout import places, reduced
from pipeline.report.page import PAGE, POLICY, render_page, write_page
from pipeline.report.record import FAILED, NOT_RUN, RUNNING, read_run
from tests.run_record import make_record

EVERY = ("snapshot", "validate", "features", "materialize", "embed", "pretrain", "transfer@harbour", "register@orchard")


class Elements(HTMLParser):
    """Tags and attributes of a page, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_a_finished_run_says_what_was_judged_and_how_to_do_it_again(tmp_path):
    record = make_record(tmp_path / "r", cached=("snapshot", "validate"))
    page = write_page(record, {"MLflow": "http://127.0.0.1:5000/#/runs/1"})
    assert page == record / PAGE
    html = page.read_text()
    said = " ".join(Elements(html).text.split())
    for words in ("16 executed, 2 from the cache", "harbour: promote, version 17", "over item-kNN", "0.01%",
                  "may be worse than the champion by more than 2%", "learns from rows before 1 Jan 2026",
                  ".venv/bin/warmstart lineage reproduce rec-harbour/17", "5 min 18 s",
                  "AS_OF=2026-01-01T00:00:00Z"):  # fmt: skip
        assert words in said, words
    for address in EVERY:
        assert f'id="stage-{address.replace("@", "-at-")}"' in html
    assert json.loads((record / "run/manifests/pretrain.json").read_text())["sha256"] in html
    assert "/dags/retrain/runs/" in html
    assert "http://127.0.0.1:5000/#/runs/1" in html


def test_it_needs_nothing_but_itself(tmp_path):
    html = write_page(make_record(tmp_path / "r")).read_text()
    tags = Elements(html).tags
    assert {"http-equiv": "Content-Security-Policy", "content": POLICY} in [attributes for _, attributes in tags]
    assert not {"script", "link", "img", "iframe", "object", "form"} & {tag for tag, _ in tags}
    assert "@import" not in html
    assert not re.search(r"url\(|\son[a-z]+=|javascript:", html)
    for tag, attributes in tags:
        if tag == "a" and (attributes["href"] or "").startswith("http"):
            assert attributes["rel"] == "noopener noreferrer"


def test_the_reports_it_links_to_are_beside_it(tmp_path):
    record = make_record(tmp_path / "r")
    links = [a["href"] for tag, a in Elements(write_page(record).read_text()).tags if tag == "a"]
    local = [link for link in links if not link.startswith(("#", "http"))]
    assert {"reports/validation/index.html", "reports/evaluation/harbour/report.html"} <= set(local)
    assert all((record / link).exists() for link in local)


def test_names_are_text_whatever_they_hold(tmp_path):
    evil = '"><script>alert(1)</script><b x="'
    record = make_record(tmp_path / "r", data=evil, run_id=evil, failed="embed", code=78, message=evil)
    html = write_page(record).read_text()
    assert "<script" not in html
    assert "<b x=" not in html
    assert html.count("&lt;script&gt;") > 2


@pytest.mark.parametrize(
    ("code", "meaning"), [(65, "the data broke a contract"), (78, "bad configuration"), (137, "killed")]
)
def test_a_failed_run_says_where_and_why(tmp_path, code, meaning):
    record = make_record(tmp_path / "r", failed="validate", code=code, message="4.2 % of the rows have no user")
    said = " ".join(Elements(write_page(record).read_text()).text.split())
    assert "Failed at validate" in said
    assert f"{meaning} ({code})" in said
    assert "4.2 % of the rows have no user" in said
    assert "1 executed, 1 failed, 16 not run" in said
    assert "lineage reproduce" not in said


def test_a_failed_validation_shows_the_table_that_stopped_it(tmp_path):
    html = write_page(make_record(tmp_path / "r", failed="validate", code=65, message="x")).read_text()
    assert re.search(r'<tr class="stops"><td>metro / interactions', html)


def test_an_open_run_is_drawn_too_and_its_running_stage_is_no_failure(tmp_path):
    workspace = make_record(tmp_path / "r", failed="transfer@harbour", closed=False)
    view = read_run(workspace)
    assert view.stages["transfer@harbour"].state == RUNNING
    assert not view.stopped
    assert "this run is still open" in render_page(workspace)
    assert not (workspace / PAGE).exists()


def test_the_same_record_read_as_closed_says_killed(tmp_path):
    record = make_record(tmp_path / "r", failed="transfer@harbour")
    view = read_run(record)
    assert [stage.address for stage in view.stopped] == ["transfer@harbour"]
    assert view.stages["distill@harbour"].state == NOT_RUN
    assert view.stages["register@orchard"].state == "executed"


def test_a_run_that_could_not_be_opened_has_a_page(tmp_path):
    folder = tmp_path / "manual__2026"
    attempt = folder / "run" / "attempts" / "open" / "1.json"
    attempt.parent.mkdir(parents=True)
    ended = {"attempt": "1", "started": "2026-01-01T00:00:00+00:00", "ended": "2026-01-01T00:00:01+00:00"}
    attempt.write_text(json.dumps({**ended, "exit_code": 78, "message": "git ref 'x' is not in there"}))
    assert read_run(folder).stages["open"].state == FAILED
    said = Elements(write_page(folder).read_text()).text
    assert "git ref 'x' is not in there" in said
    assert "bad configuration" in said


def test_a_target_without_test_users_says_so(tmp_path):
    record = make_record(tmp_path / "r", verdicts=("refuse",))
    path = record / "reports" / "evaluation" / "harbour" / "metrics.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "n": 0}))
    said = " ".join(Elements(write_page(record).read_text()).text.split())
    assert "There are no test users" in said
    assert "Refuse" in said


def test_what_the_gate_judged_is_shown_in_full(tmp_path):
    record = make_record(tmp_path / "r", verdicts=("hold",))
    path = record / "receipts" / "register" / "harbour" / "receipt.json"
    receipt = json.loads(path.read_text())
    receipt["gate"]["comparisons"].append({"against": "broken", "difference": None, "low": None, "high": None})
    path.write_text(json.dumps(receipt))
    html = write_page(record).read_text()
    said = " ".join(Elements(html).text.split())
    assert "champion, user cold -0.0104 failed" in said
    assert "champion, item cold +0.0091 too few to judge" in said
    assert "size 1.42 MB 50 MB passed" in said
    assert "age missing 2 days cannot be judged" in said
    assert receipt["gate"]["sha256"] in said
    assert 'class="limit"' in html


def test_a_page_is_replaced_whole(tmp_path):
    record = make_record(tmp_path / "r")
    first = write_page(record).read_text()
    run = yaml.safe_load((record / "run.yaml").read_text())
    (record / "run.yaml").write_text(yaml.safe_dump({**run, "data": "another dataset"}))
    assert write_page(record).read_text() != first
    assert not list(record.glob(".run.html*"))


def test_edges_that_say_nothing_new_are_left_out():
    edges = {"a": (), "b": ("a",), "c": ("a", "b"), "d": ("a", "c", "b")}
    assert reduced(edges) == {"a": (), "b": ("a",), "c": ("b",), "d": ("c",)}


def test_no_two_stages_stand_on_one_place_and_targets_have_lanes_of_their_own(tmp_path):
    view = read_run(make_record(tmp_path / "r", targets=("one", "two", "three")))
    where = places(reduced(view.edges))
    assert len(set(where.values())) == len(where) == len(view.edges)
    for address, waits in view.edges.items():
        assert all(where[above].column < where[address].column for above in waits)
    assert len({where[f"prune@{target}"].lane for target in ("one", "two", "three")}) == 3
    main = [where[address].lane for address in ("snapshot", "validate", "features", "embed", "pretrain", "augment@one")]
    assert set(main) == {0}


def test_drawing_imports_no_machine_learning():
    # Airflow's API server draws pages too
    code = "import sys, pipeline.report.page; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for name in ("torch", "pandas", "polars", "numpy", "mlflow", "dvc", "feast", "pydantic", "matplotlib"):
        assert f"'{name}'" not in loaded
