"""A sweep's points, plots and table in MLflow."""

from __future__ import annotations

from pipeline.sweep.report import render_report
from pipeline.sweep.tracking import track_sweep

KEPT = {"value": 0.9, "low": 0.8, "high": 1.0, "n": 5}


def point(student: str, export: str, ndcg10: float, size: int) -> dict:
    row = {"student": student, "export": export, "ndcg10": ndcg10, "bytes": size, "p50_ms": size / 1000}
    return row | {"parameters": size // 4, "retention": KEPT, "untaught": KEPT, "teacher_sized": None}


def test_a_sweep_is_in_mlflow_a_step_a_point(registry, tmp_path):
    points = [point("as configured", "dense", 0.09, 900), point("as configured", "pruned, int8", 0.08, 200)]
    teacher = point("teacher", "torch", 0.1, 9000) | {"untaught": None}
    found = {"target": "t", "n": 5, "confidence": 0.95, "teacher": teacher, "points": points, "refused": []}
    found |= {"by_bytes": ["as configured: pruned, int8"], "by_p50_ms": ["as configured: dense"]}
    page = render_report(found)
    (tmp_path / "report.html").write_text(page, "utf-8")
    run_id = track_sweep(found, tmp_path)
    run = registry.client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["warmstart.sweep"] == "t"
    assert run.data.params == {"point_0": "as configured: dense", "point_1": "as configured: pruned, int8"}
    for figure in ("ndcg10", "bytes", "p50_ms", "parameters"):
        kept = [(metric.step, metric.value) for metric in registry.client.get_metric_history(run_id, figure)]
        assert kept == [(step, row[figure]) for step, row in enumerate(points)]
    [file] = registry.client.list_artifacts(run_id, "reports/compression/t")
    assert file.path.endswith("report.html")
    first, second = (part.split("</svg>")[0] for part in page.split("<svg")[1:])
    for plot, best in ((first, "pruned, int8"), (second, "dense")):
        (blue,) = [circle for circle in plot.split("<circle")[1:] if 'class="best"' in circle]
        assert f"as configured: {best}:" in blue
        assert 'class="teacher"' in plot
