"""What a stage reads and writes as OpenLineage datasets: version, schema, statistics, data-quality assertions.

A dataset is what DVC versions: `data/valid`, `models/served/harbour`. Its version is DVC's md5, so that the same
content is the same version in every run.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    data_quality_assertions_dataset,
    dataset_version_dataset,
    output_statistics_output_dataset,
    schema_dataset,
)
from openlineage.client.generated.base import DatasetFacet

Field = schema_dataset.SchemaDatasetFacetFields


def namespace() -> str:
    """Namespace of jobs and datasets; `OPENLINEAGE_NAMESPACE` names another, as for Airflow's own events."""
    return os.environ.get("OPENLINEAGE_NAMESPACE") or "warmstart"


def inputs_of(manifest: dict[str, Any], ended: bool) -> list[InputDataset]:
    """The data a stage read (its code is in the source code facet), and the sources that snapshot read.

    Args:
        ended: with what was found out about them.
    """
    asserted = _assertions(manifest.get("validation")) if ended else None
    found = [
        InputDataset(
            namespace=namespace(),
            name=path,
            facets=_version(one["md5"]),
            inputFacets={"dataQualityAssertions": asserted} if asserted else {},
        )
        for path, one in manifest["inputs"].items()
        if path.partition("/")[0] in ("data", "models", "reports", "receipts")
    ]
    places: dict[tuple[str, str], str] = {}
    for source in (manifest.get("sources") or {}).values():
        places.setdefault(_place(str(source["place"])), str(source.get("md5") or ""))
    found += [InputDataset(namespace=where, name=name, facets=_version(md5)) for (where, name), md5 in places.items()]
    return found


def outputs_of(manifest: dict[str, Any]) -> list[OutputDataset]:
    """What a stage wrote, and the model version that register made."""
    found = [_output(path, one) for path, one in manifest["outputs"].items()]
    model = manifest.get("model") or {}
    if model.get("version"):
        version = _version(str(model["version"]))
        found.append(OutputDataset(namespace=namespace(), name=f"registry/{model['name']}", facets=version))
    return found


def _output(path: str, one: dict[str, Any]) -> OutputDataset:
    facets = _version(one["md5"])
    fields = _schema(one.get("files") or [])
    if fields:
        facets["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields)
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=one.get("rows"), size=one.get("bytes"), fileCount=one.get("nfiles")
    )
    return OutputDataset(namespace=namespace(), name=path, facets=facets, outputFacets={"outputStatistics": statistics})


def _version(md5: str) -> dict[str, DatasetFacet]:
    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=md5)} if md5 else {}


def _schema(files: list[dict[str, Any]]) -> list[Field]:
    """A field for each table in the folder, its columns below it; the partitions of a table are one."""
    tables: dict[str, dict[str, str]] = {}
    for file in files:
        if file.get("columns"):
            tables.setdefault(_table(file["path"]), {}).update(file["columns"])
    return [
        Field(name=table, type="table", ordinal_position=place, fields=[
            Field(name=column, type=kind, ordinal_position=index)
            for index, (column, kind) in enumerate(columns.items(), start=1)
        ])
        for place, (table, columns) in enumerate(tables.items(), start=1)
    ]  # fmt: skip


def _table(path: str) -> str:
    """`harbour/interactions/2025-11.parquet` -> `harbour/interactions`; `harbour/items.parquet` -> `harbour/items`."""
    folder, _, name = path.rpartition("/")
    stem = name.partition(".")[0]
    partition = stem == "undated" or stem.replace("-", "").isdigit()
    return folder if partition else f"{folder}/{stem}".strip("/")


def _assertions(validation: dict[str, Any] | None) -> Any:
    """A contract is an assertion that can stop the run; a row rule that rows broke is one that put them aside."""
    if not validation:
        return None
    Assertion = data_quality_assertions_dataset.Assertion  # noqa: N806
    held = bool(validation["success"])
    found = [
        Assertion(assertion="contract", name=suite, success=held, severity="error", params={"sha256": digest})
        for suite, digest in validation["suites"].items()
    ]
    for table, rules in validation["quarantined"].items():
        found += [
            Assertion(assertion=rule, name=f"{table}: {rule}", success=False, severity="warn", actual=str(rows))
            for rule, rows in rules.items()
        ]
    return data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(assertions=found)


def _place(place: str) -> tuple[str, str]:
    """Namespace and name of a source, by OpenLineage's naming: `s3://bucket` and the key, `file` and the path.

    What has no place of its own (`world:small`) is ours.
    """
    parts = urlsplit(place)
    if parts.scheme and parts.netloc:
        return f"{parts.scheme}://{parts.netloc}", parts.path.strip("/") or "/"
    return ("file" if place.startswith("/") else namespace()), place
