"""The page of a run in a real browser: nothing blocked, cut off or fetched, at both widths, in light and dark."""

from __future__ import annotations

import pytest

from pipeline.report.page import write_page
from tests.browser import Browser, find_browser
from tests.run_record import make_record

pytestmark = pytest.mark.skipif(
    find_browser() is None,
    reason="no Chromium on the PATH: install one (apt-get install chromium), or name one with CHROMIUM=/path/to/it",
)

RUNS = {
    "finished": {"cached": ("snapshot", "validate", "features")},
    "failed": {"failed": "validate", "code": 65, "message": "a sentence " * 30 + "run/failed/" + "x" * 200},
    "many targets": {"targets": tuple(f"a-target-with-a-long-name-{i}" for i in range(6))},
}
WIDTHS = {1280: "across", 390: "down"}


@pytest.fixture(scope="module")
def browser():
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    made = {name: make_record(folder / name.replace(" ", "-"), **about) for name, about in RUNS.items()}
    return {name: write_page(record) for name, record in made.items()}


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_is_whole(browser, pages, name, width, dark):
    page = browser.open(pages[name].as_uri(), width, dark=dark)
    assert page.problems == []
    assert page.requests == [pages[name].as_uri()]
    assert page.evaluate("document.title") == "scheduled__2026-01-01T02:00:00+00:00"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    cut_off = (
        "[...document.querySelectorAll('h1, h2, p, dd, .row > *, summary > *, .graph text')]"
        ".filter(e => e.getClientRects().length && e.getBoundingClientRect().right > innerWidth)"
        ".map(e => e.textContent)"
    )
    assert page.evaluate(cut_off) == []
    shown = "[...document.querySelectorAll('.graph')].filter(e => e.getClientRects().length).map(e => e.classList[1])"
    assert page.evaluate(shown) == [WIDTHS[width]]


def test_light_and_dark_differ_and_both_can_be_read(browser, pages):
    ratios = []
    for dark in (False, True):
        page = browser.open(pages["finished"].as_uri(), 1280, dark=dark)
        colours = page.evaluate(
            "['color', 'backgroundColor'].map(c => getComputedStyle(document.body)[c].match(/\\d+/g).map(Number))"
        )
        ratios.append(_contrast(*colours))
        soft = page.evaluate("getComputedStyle(document.querySelector('.soft')).color.match(/\\d+/g).map(Number)")
        assert _contrast(soft, colours[1]) >= 4.5  # WCAG 2.2, 1.4.3
        assert (sum(colours[1]) < 3 * 64) is dark
    assert min(ratios) >= 7


def test_a_tap_on_a_stage_opens_its_entry(browser, pages):
    page = browser.open(pages["finished"].as_uri() + "#stage-pretrain", 390)
    assert page.evaluate("document.getElementById('stage-pretrain').closest('details').open") is True
    link = "document.querySelector('.graph.down a.stop[href=\"#stage-pretrain\"]')"
    assert page.evaluate(f"{link} !== null") is True


def _contrast(one, other):
    def light(colour):
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
