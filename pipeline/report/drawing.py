"""The graph of a run as inline SVG: stages are stops, what they hand on stands on the lines between.

Two drawings of the same graph: across for a wide page, down for a phone; the style sheet shows one of them. Colours are
classes, so that light and dark are the style sheet's; a state is told by its shape too, for a reader without colours.
Hovering names hashes (`<title>`); a tap leads to the stage's entry below.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from pipeline.graph import split_address
from pipeline.report.layout import Place, places, reduced
from pipeline.report.record import CACHED, EXECUTED, FAILED, RUNNING, RunView, StageView
from pipeline.report.words import duration, number, size

WIDTH, LEFT, RIGHT, TOP, LANE = 1180, 42, 162, 52, 92
NARROW, ROW, STEP, GUTTER = 350, 46, 18, 10
RADIUS = 7
CLASSES = {EXECUTED: "executed", CACHED: "cached", FAILED: "failed", RUNNING: "running"}


def across(view: RunView, endings: dict[str, str]) -> str:
    """The graph from left to right; `endings` is a few words for the end of each target's line."""
    edges = reduced(view.edges)
    where = places(edges)
    columns = 1 + max(place.column for place in where.values())
    lanes = 1 + max(place.lane for place in where.values())
    pitch = (WIDTH - LEFT - RIGHT) / max(1, columns - 1)
    at: dict[str, tuple[float, float]] = {
        address: (LEFT + place.column * pitch, TOP + place.lane * LANE) for address, place in where.items()
    }
    lines, marks = [], []
    labelled: set[str] = set()
    for address, near in _pairs(edges):
        (x0, y0), (x1, y1) = at[near], at[address]
        turn = x1 - pitch
        path = f"M{x0:.1f} {y0}H{x1:.1f}" if y0 == y1 else _across_curve(x0, y0, turn, x1, y1)
        lines.append(_line(path, view.stages[near]))
        for artifact in _handed_on(view, near, address):
            straight = where[near].lane == where[address].lane
            x, above = ((max(turn, x0) + x1) / 2, -11) if straight else (turn + pitch * 0.66, 16)
            label = "" if artifact in labelled else _label(artifact)
            marks.append(_artifact(view, artifact, x, y1, label, y1 + above))
            labelled.add(artifact)
    stops = [_stop(view.stages[address], *at[address], _across_texts) for address in edges]
    ends = [_ending(target, endings.get(target, ""), where, at) for target in endings if _last(where, target)]
    return _svg("across", WIDTH, TOP + (lanes - 1) * LANE + 44, [*lines, *marks, *stops, *ends])


def down(view: RunView, endings: dict[str, str]) -> str:
    """The graph from top to bottom, each target's line under the other's."""
    edges = reduced(view.edges)
    order = sorted(edges, key=lambda address: _section(address, endings))
    wide = places(edges)
    # the shared stages keep their lanes; the targets' lines share one, since they stand under each other
    lane = {address: wide[address].lane if not split_address(address)[1] else 1 for address in order}
    text_x = GUTTER + STEP * (1 + max(lane.values())) + 12
    at: dict[str, tuple[float, float]] = {}
    y, heads, section = 16.0, [], None
    for address in order:
        target = split_address(address)[1]
        if target != section:
            heads.append(_head(str(target), endings.get(str(target), ""), text_x, y + 6))
            y, section = y + 38, target
        at[address] = (GUTTER + STEP * lane[address], y)
        y += ROW
    lines = []
    for address, near in _pairs(edges):
        (x0, y0), (x1, y1) = at[near], at[address]
        path = f"M{x0} {y0}V{y1}" if x0 == x1 else f"M{x0} {y0}V{y1 - 30}C{x0} {y1 - 8} {x1} {y1 - 24} {x1} {y1}"
        lines.append(_line(path, view.stages[near]))
    stops = [
        _stop(view.stages[address], *at[address], lambda stage, x, y: _down_texts(view, stage, text_x, y))
        for address in order
    ]
    return _svg("down", NARROW, y - 8, [*lines, *heads, *stops])


def _across_curve(x0: float, y0: float, turn: float, x1: float, y1: float) -> str:
    # the bend begins beside the one stop's duration and ends before the other's name
    begin, end = turn + (x1 - turn) * 0.27, turn + (x1 - turn) * 0.64
    bend = (end - begin) * 0.6
    return f"M{x0:.1f} {y0}H{begin:.1f}C{begin + bend:.1f} {y0} {end - bend:.1f} {y1} {end:.1f} {y1}H{x1:.1f}"


def _pairs(edges: dict[str, tuple[str, ...]]) -> Iterable[tuple[str, str]]:
    return ((address, near) for address, waits in edges.items() for near in waits)


def _handed_on(view: RunView, near: str, address: str) -> list[str]:
    return [path for path in view.stages[near].outputs if path in view.stages[address].reads]


def _label(path: str) -> str:
    kind, _, rest = path.partition("/")
    return rest.partition("/")[0] if kind in ("data", "models", "reports", "receipts") else path


def _line(path: str, source: StageView) -> str:
    drawn = "drawn" if source.state in (EXECUTED, CACHED) else "idle"
    return f'<path class="line {drawn}" d="{path}"/>'


def _artifact(view: RunView, path: str, x: float, y: float, label: str, label_y: float) -> str:
    made = view.made_by()[path].manifest.get("outputs", {}).get(path)
    shape = (
        f'<path d="M{x - 4:.1f} {y}l4 -4l4 4l-4 4z"/>'
        if path.startswith("models/")
        else f'<rect x="{x - 3:.1f}" y="{y - 3}" width="6" height="6"/>'
    )
    text = f'<text x="{x:.1f}" y="{label_y}">{escape(label)}</text>' if label else ""
    title = escape(artifact_words(path, made))
    return f'<g class="artifact{"" if made else " absent"}"><title>{title}</title>{shape}{text}</g>'


def artifact_words(path: str, made: dict[str, object] | None) -> str:
    """What is known of an artifact: path, size, files, rows, hash; a line each."""
    if not made:
        return f"{path}\nnot made in this run"
    facts = [size(made.get("bytes"))] if made.get("bytes") is not None else []  # type: ignore[arg-type]
    facts += [f"{number(made[key])} {word}" for key, word in (("nfiles", "files"), ("rows", "rows")) if made.get(key)]
    return "\n".join([path, ", ".join(facts), f"md5 {made.get('md5', 'unknown')}"])


def _stop(stage: StageView, x: float, y: float, texts: object) -> str:
    kind = CLASSES.get(stage.state, "idle")
    cross = f'<path class="cross" d="M{x - 3:.1f} {y - 3}l6 6m0 -6l-6 6"/>' if stage.state == FAILED else ""
    shape = f'<circle cx="{x:.1f}" cy="{y}" r="{RADIUS}"/>{cross}'
    drawn = texts(stage, x, y)  # type: ignore[operator]
    return (
        f'<a href="#{escape(anchor(stage.address), quote=True)}" class="stop {kind}">'
        f"<title>{escape(stage_words(stage))}</title>{shape}{drawn}</a>"
    )


def anchor(address: str) -> str:
    """Where on the page a stage has its entry."""
    return f"stage-{address.replace('@', '-at-')}"


def stage_words(stage: StageView) -> str:
    """What a reader sees on hovering over a stage."""
    lines = [f"{stage.address}: {stage.state} {duration(stage.seconds)}".rstrip(), stage.message]
    manifest = stage.manifest
    lines += [f"{path}  md5 {made.get('md5', 'unknown')}" for path, made in manifest.get("outputs", {}).items()]
    if manifest.get("sha256"):
        lines.append(f"manifest {manifest['sha256']}")
    return "\n".join(line for line in lines if line)


def _across_texts(stage: StageView, x: float, y: float) -> str:
    note = duration(stage.seconds) if stage.state == EXECUTED else stage.state
    return (
        f'<text class="name" x="{x:.1f}" y="{y - 24}">{escape(stage.name)}</text>'
        f'<text class="note" x="{x:.1f}" y="{y + 25}">{escape(note)}</text>'
    )


def _down_texts(view: RunView, stage: StageView, x: float, y: float) -> str:
    made = stage.manifest.get("outputs", {})
    read = {path for other in view.stages.values() for path in other.reads}
    kept = [f"{_label(out)} {size(made.get(out, {}).get('bytes'))}".rstrip() for out in stage.outputs if out in read]
    note = duration(stage.seconds) if stage.state == EXECUTED else stage.state
    return (
        f'<text class="name" x="{x}" y="{y + 2}">{escape(stage.name)}</text>'
        f'<text class="note" x="{NARROW}" y="{y + 2}">{escape(note)}</text>'
        f'<text class="kept" x="{x}" y="{y + 18}">{escape(", ".join(kept))}</text>'
    )


def _last(where: dict[str, Place], target: str) -> list[str]:
    return [address for address in where if split_address(address)[1] == target]


def _ending(target: str, words: str, where: dict[str, Place], at: dict[str, tuple[float, float]]) -> str:
    x, y = at[max(_last(where, target), key=lambda address: where[address].column)]
    return (
        f'<text class="target" x="{x + 44:.1f}" y="{y - 2}">{escape(_cut(target, 15))}</text>'
        f'<text class="ending" x="{x + 44:.1f}" y="{y + 15}">{escape(words)}</text>'
    )


def _head(target: str, words: str, x: float, y: float) -> str:
    return (
        f'<text class="target" x="{x}" y="{y}">{escape(_cut(target, 18))}</text>'
        f'<text class="note" x="{NARROW}" y="{y}">{escape(words)}</text>'
    )


def _cut(name: str, letters: int) -> str:
    # the whole name stands above its figures
    return name if len(name) <= letters else name[: letters - 1] + "…"


def _section(address: str, endings: dict[str, str]) -> int:
    target = split_address(address)[1]
    return -1 if target is None else list(endings).index(target) if target in endings else len(endings)


def _svg(kind: str, width: float, height: float, parts: list[str]) -> str:
    return (
        f'<svg class="graph {kind}" viewBox="0 0 {width} {height:.0f}" role="img" '
        f'aria-label="The graph of the run">{"".join(parts)}</svg>'
    )
