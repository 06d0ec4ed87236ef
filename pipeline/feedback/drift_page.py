"""The drift report as one page that fetches nothing and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pipeline.feedback.drift_report import Report
from pipeline.feedback.psi import SHIFTED, Shift

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2733;background:#fff}
h3{margin:1.2rem 0 .3rem}.quiet{color:#68788a}.bad{color:#b3261e}svg{width:100%;height:auto;font:11px system-ui}
.then{fill:#9fb3c8}.now{fill:#0b5cad}text{fill:#1c2733}
@media(prefers-color-scheme:dark){body{background:#14191f;color:#dde3ea}text{fill:#dde3ea}.quiet{color:#93a3b3}
.bad{color:#ff8a80}.then{fill:#4c6178}.now{fill:#7ab8f5}}
"""
ROW, WIDTH, LABEL = 26, 720, 190  # px


def page(reports: Sequence[Report], days: int) -> str:
    """The whole HTML."""
    body = "".join(_target(report, days) for report in reports) or (
        "<p>No target has both feedback and a champion whose rows are in the cache.</p>"
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Drift</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style><h1>Drift</h1>{body}</html>\n'
    )


def _target(report: Report, days: int) -> str:
    verdict = (
        f'<p class="bad">{escape(report.sentence)}.</p>' if report.reasons else f"<p>{escape(report.sentence)}.</p>"
    )
    online = report.online
    hr10 = "–" if online.hr10 is None else f"{online.hr10:.3f} [{online.low:.3f}, {online.high:.3f}]"
    promised = "–" if report.promised is None else f"{report.promised:.3f}"
    fallbacks = "not said by the impressions" if online.fallbacks is None else f"{online.fallbacks:.1%}"
    return (
        f"<h2>{escape(report.target)}</h2>{verdict}"
        f'<p class="quiet">The {days} days before {report.until} against what the champion of run '
        f"{escape(report.run_id)} learned from. HR@10 online {hr10} of {online.requests:,} answers, "
        f"offline {promised}; fallbacks: {fallbacks}.</p>" + "".join(_drawn(shift) for shift in report.shifts)
    )


def _drawn(shift: Shift) -> str:
    """Two bars a bin: the share when the champion learned, and now."""
    most = max((max(before, now) for _, before, now in shift.bins), default=1.0) or 1.0
    bars = []
    for number, (name, before, now) in enumerate(shift.bins):
        y = number * ROW
        bars.append(f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{escape(name[:30])}</text>')
        for kind, share, offset in (("then", before, 2), ("now", now, 12)):
            length = share / most * (WIDTH - LABEL - 60)
            bars.append(f'<rect class="{kind}" x="{LABEL}" y="{y + offset}" width="{length:.1f}" height="9"/>')
        bars.append(f'<text x="{WIDTH - 55}" y="{y + 15}">{before:.1%} → {now:.1%}</text>')
    kind = ' class="bad"' if shift.shifted else ""
    limit = max(SHIFTED, shift.chance)
    return (
        f"<h3{kind}>{escape(shift.feature)}: PSI {shift.psi:.3f} (limit {limit:.2f})</h3>"
        f'<svg viewBox="0 0 {WIDTH} {max(1, len(shift.bins)) * ROW}" role="img"'
        f' aria-label="{escape(shift.feature)}: then and now">{"".join(bars)}</svg>'
    )
