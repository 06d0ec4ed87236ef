"""MovieLens: one domain, both source and target; ratings are the events, titles and genres the text.

F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM TiiS 5(4), 2015.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from pipeline.data.adapters.download import fetch_and_unpack
from pipeline.data.folder import write_dataset
from pipeline.data.schema import TableName
from pipeline.exit_codes import BadConfiguration, DataBrokeContract

GROUPLENS = "https://files.grouplens.org/datasets/movielens"
# MD5 of the releases that never change; `latest` ones do, and are held to the .md5 beside them.
RELEASES: dict[str, str | None] = {
    "ml-latest-small": None,
    "ml-1m": "c4d9eecfca2ab87c1945afe126590906",
    "ml-25m": "6b51fb2759a8657d3bfcbfc42b592ada",
}
NO_GENRES = "(no genres listed)"
MOMENT = pl.Datetime("us", "UTC")


def prepare(
    name: str,
    source_dir: Path | None,
    out: Path,
    protocol: str = "leave_one_out",
    base_url: str = GROUPLENS,
    cache: Path | None = None,
) -> Path:
    """Write a MovieLens release as a dataset folder.

    Args:
        source_dir: folder with the release's files (plain or gzipped); None fetches the release.
        cache: where fetched archives are kept.

    Returns:
        The path of `dataset.yaml`.

    Raises:
        BadConfiguration: files are missing.
        DataBrokeContract: a file is not what it should be, or an archive's checksum is wrong.
        PassingFault: the server did not answer.
    """
    if source_dir is None:
        members = ("ratings.dat", "movies.dat", "users.dat") if name == "ml-1m" else ("ratings.csv", "movies.csv")
        source_dir = fetch_and_unpack(f"{base_url}/{name}.zip", members, RELEASES[name], cache)
    try:
        tables = _tables_1m(source_dir) if _find(source_dir, "ratings.dat") else _tables_csv(source_dir)
    except pl.exceptions.PolarsError as error:
        raise DataBrokeContract(f"{source_dir} is not {name} as published: {' '.join(str(error).split())}.") from error
    head: dict[str, Any] = {"name": name, "clock": "real", "protocol": protocol, "pseudonyms": "public"}
    return write_dataset(out, head, {"movies": (["source", "target"], tables)})


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _required(folder: Path, name: str) -> Path:
    path = _find(folder, name)
    if path is None:
        raise BadConfiguration(f"--from {folder} has neither {name} nor {name}.gz; give the release's own folder.")
    return path


def _tables_csv(folder: Path) -> dict[TableName, pl.DataFrame]:
    """ml-latest-small, ml-25m."""
    ratings, movies = (_read_csv(_required(folder, name)) for name in ("ratings.csv", "movies.csv"))
    return {"interactions": _interactions(ratings), "items": _items(movies)}


def _read_csv(path: Path) -> pl.DataFrame:
    try:
        return pl.read_csv(path, infer_schema=False)
    except pl.exceptions.PolarsError as error:
        raise DataBrokeContract(f"{path} cannot be read as CSV: {str(error).splitlines()[0]}.") from error


def _tables_1m(folder: Path) -> dict[TableName, pl.DataFrame]:
    """ml-1m: `::` between the fields, Latin-1, no header."""
    ratings = _read_dat(_required(folder, "ratings.dat"), ["userId", "movieId", "rating", "timestamp"])
    movies = _read_dat(_required(folder, "movies.dat"), ["movieId", "title", "genres"])
    users = _read_dat(_required(folder, "users.dat"), ["userId", "gender", "age", "occupation", "zip"])
    told = pl.concat_list(pl.format("{}:{}", pl.lit(name), name) for name in ("gender", "age", "occupation"))
    return {
        "interactions": _interactions(ratings),
        "items": _items(movies),
        "users": users.select(user_id="userId", attributes=told),
    }


def _read_dat(path: Path, names: list[str]) -> pl.DataFrame:
    import gzip

    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows = [line.split("::") for line in raw.decode("latin-1").splitlines() if line]
    wrong = next((row for row in rows if len(row) != len(names)), None)
    if wrong is not None:
        raise DataBrokeContract(f"{path}: a line should have {len(names)} fields ({', '.join(names)}), found {wrong}.")
    return pl.DataFrame(rows, schema=dict.fromkeys(names, pl.String), orient="row")


def _interactions(ratings: pl.DataFrame) -> pl.DataFrame:
    seconds = pl.col("timestamp").cast(pl.Int64)
    return ratings.select(
        user_id="userId",
        item_id="movieId",
        timestamp=(seconds * 1_000_000).cast(MOMENT),
        event=pl.lit("rating"),
        value=pl.col("rating").cast(pl.Float32),
    )


def _items(movies: pl.DataFrame) -> pl.DataFrame:
    genres = pl.when(pl.col("genres") != NO_GENRES).then(pl.col("genres").str.split("|"))
    none = pl.lit([], dtype=pl.List(pl.String))
    listed = movies.with_columns(genre=pl.coalesce(genres, none))
    return listed.select(
        item_id="movieId",
        text=pl.col("title")
        + pl.when(pl.col("genre").list.len() > 0).then(". " + pl.col("genre").list.join(", ")).otherwise(pl.lit("")),
        attributes=pl.col("genre").list.eval("genre:" + pl.element()),
    )
