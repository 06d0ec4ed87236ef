"""Amazon reviews in the 5-core splits of the sequential recommendation papers: several shops, order but no clock.

User ids are alike in every shop but games, so that a user shared between shops stays one user. Without clocks
something a user did in a source shop may have come after the target's test interaction: `drop_shared_users` takes those
users out of the sources for a strict transfer.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pipeline.data.dataset import nearest
from pipeline.data.folder import write_dataset
from pipeline.data.schema import TableName
from pipeline.exit_codes import BadConfiguration, DataBrokeContract

ANONYMOUS = r"_attr_\d+$"  # attributes that were published as numbers only: nothing a language model could read


def prepare(
    source_dir: Path,
    out: Path,
    sources: list[str],
    targets: list[str],
    protocol: str = "leave_one_out",
    drop_shared_users: bool = False,
) -> Path:
    """Write the named shops as a dataset folder; its `dataset.yaml`.

    Args:
        source_dir: folder with a folder per shop, each with `interactions.tsv.gz` and `items.tsv.gz`.
        sources, targets: names of shops; one may be both.

    Raises:
        BadConfiguration: a shop is not there, or none is named.
        DataBrokeContract: a file is not what it should be.
    """
    if not sources or not targets:
        raise BadConfiguration("amazon needs --sources and --targets, e.g. --sources sports2014 --targets beauty2014.")
    known = sorted(path.parent.name for path in source_dir.glob("*/interactions.tsv*"))
    shops = list(dict.fromkeys([*sources, *targets]))
    for shop in shops:
        if shop not in known:
            raise BadConfiguration(f"--from {source_dir} has no shop {shop!r}{nearest(shop, known)}.")
    tables = {shop: _tables(source_dir / shop) for shop in shops}
    if drop_shared_users:
        in_targets = pl.concat([tables[shop]["interactions"].select("user_id") for shop in targets]).unique()
        for shop in set(sources) - set(targets):
            rows = tables[shop]["interactions"].join(in_targets, on="user_id", how="anti", maintain_order="left")
            tables[shop]["interactions"] = rows
    roles = {
        shop: [role for role, named in (("source", sources), ("target", targets)) if shop in named] for shop in shops
    }
    head = {"name": "amazon", "clock": "order", "protocol": protocol, "pseudonyms": "public"}
    return write_dataset(out, head, {shop: (roles[shop], tables[shop]) for shop in shops})


def _tables(folder: Path) -> dict[TableName, pl.DataFrame]:
    rows, items = (_read(folder, name) for name in ("interactions", "items"))
    _require(rows, ["user_id", "item_id", "position"], folder / "interactions.tsv")
    _require(items, ["item_id"], folder / "items.tsv")
    try:
        visits = rows.select("user_id", "item_id", pl.col("position").cast(pl.Int64), event=pl.lit("review"))
    except pl.exceptions.PolarsError as error:
        wrong = " ".join(str(error).split())
        raise DataBrokeContract(
            f"{folder / 'interactions.tsv'}: position should be a whole number: {wrong}."
        ) from error
    return {"interactions": visits, "items": _items(items)}


def _read(folder: Path, name: str) -> pl.DataFrame:
    path = next((p for p in (folder / f"{name}.tsv.gz", folder / f"{name}.tsv") if p.is_file()), None)
    if path is None:
        raise BadConfiguration(f"{folder} has no {name}.tsv or {name}.tsv.gz.")
    try:
        # Titles hold stray quotes: a quote means nothing in these files.
        return pl.read_csv(path, separator="\t", quote_char=None, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise DataBrokeContract(f"{path} cannot be read: {str(error).splitlines()[0]}.") from error


def _require(frame: pl.DataFrame, names: list[str], path: Path) -> None:
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise DataBrokeContract(f"{path} has no column {missing[0]!r}, only {', '.join(frame.columns)}.")


def _items(items: pl.DataFrame) -> pl.DataFrame:
    """Text: title, then brand and categories where they are words."""
    nothing = pl.lit(None, pl.String)
    title = pl.col("text") if "text" in items.columns else pl.col("title") if "title" in items.columns else nothing
    raw = pl.col("attributes") if "attributes" in items.columns else nothing
    listed = items.select(
        "item_id",
        title=pl.when(title.str.strip_chars() != "").then(title.str.strip_chars()),
        attributes=raw.str.split("|").list.filter(pl.element() != "").fill_null([]),
    )
    words = pl.col("attributes").list.filter(~pl.element().str.contains(ANONYMOUS)).list.join(", ")
    readable = pl.concat_str("title", pl.when(words != "").then(words), separator=". ", ignore_nulls=True)
    return listed.select("item_id", text=pl.when(readable != "").then(readable), attributes="attributes")
