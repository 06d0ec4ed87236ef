"""Public data in the canonical layout; the real files where they are, small stand-ins where they are not."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest
import yaml
from typer.testing import CliRunner

from pipeline.data.adapters import amazon, movielens
from pipeline.data.commands import app
from pipeline.data.dataset import dataset_targets, load_dataset
from pipeline.exit_codes import BadConfiguration, DataBrokeContract, PassingFault
from tests.stages_by_hand import tables, take_snapshot

REAL = Path(os.environ.get("WARMSTART_DATA", Path(__file__).resolve().parents[2].parent / "shared" / "data"))
real_data = pytest.mark.skipif(not REAL.is_dir(), reason=f"real data is not at {REAL}; set WARMSTART_DATA")


@real_data
def test_ml_latest_small(tmp_path: Path) -> None:
    movielens.prepare("ml-latest-small", REAL / "ml-latest-small", tmp_path / "ml")
    assert dataset_targets(str(tmp_path / "ml")) == ["movies"]
    found = tables(take_snapshot(tmp_path, tmp_path / "ml"), "movies")
    assert (len(found["interactions"]), len(found["users"])) == (100_836, 610)
    rated = found["interactions"]["item_id"].unique()
    assert len(rated) == 9_724
    assert rated.is_in(found["items"]["item_id"].implode()).all()
    assert found["interactions"]["timestamp"].min().year == 1996
    assert found["interactions"]["value"].is_between(0.5, 5).all()
    assert found["interactions"]["event"].unique().to_list() == ["rating"]
    toy_story = found["items"].row(by_predicate=pl.col("item_id") == "1", named=True)
    assert toy_story["text"] == "Toy Story (1995). Adventure, Animation, Children, Comedy, Fantasy"
    assert toy_story["attributes"][0] == "genre:Adventure"
    assert found["items"].filter(pl.col("attributes").list.contains("genre:(no genres listed)")).is_empty()


@real_data
def test_amazon(tmp_path: Path) -> None:
    shops = {"scientific2018": (59_384, 8_442, 4_385), "beauty2014": (198_502, 22_363, 12_101)}
    amazon.prepare(REAL / "amazon", tmp_path / "amazon", ["beauty2014"], ["scientific2018"])
    taken = take_snapshot(tmp_path, tmp_path / "amazon")
    for shop, (rows, users, items) in shops.items():
        found = tables(taken, shop)
        assert (len(found["interactions"]), len(found["users"]), len(found["items"])) == (rows, users, items)
        assert found["items"]["text"].null_count() < 0.01 * items
        raw = pl.read_csv(REAL / "amazon" / shop / "interactions.tsv.gz", separator="\t", infer_schema=False)
        longest = raw["user_id"].mode()[0]
        in_order = raw.filter(pl.col("user_id") == longest).sort(pl.col("position").cast(pl.Int64))["item_id"]
        histories = found["interactions"].group_by("user_id", maintain_order=True).agg("item_id")["item_id"]
        assert in_order.to_list() in histories.to_list()
    assert load_dataset(str(tmp_path / "amazon")).clock == "order"


@pytest.fixture
def shops(tmp_path: Path) -> Path:
    """Three shops as they are published: a user in common, anonymous attributes, a quote in a title."""
    files = {
        "a": ('item_id\ttitle\tattributes\ni1\t\tGhost|Sports\ni2\tA 5" pan\tPans\n', "u1\ti1\t0\nu2\ti2\t0\n"),
        "b": ("item_id\ts3rec_id\ttitle\tattributes\nt1\t1\t\ttoys_attr_1|toys_attr_2\n", "u1\tt1\t0\n"),
        "c": ("item_id\ttext\nk1\tPlain text. \n", "u3\tk1\t0\n"),
    }
    for shop, (items, rows) in files.items():
        folder = tmp_path / "amazon" / shop
        folder.mkdir(parents=True)
        (folder / "items.tsv").write_text(items)
        (folder / "interactions.tsv").write_text("user_id\titem_id\tposition\n" + rows)
    return tmp_path / "amazon"


def test_amazon_texts(shops: Path, tmp_path: Path) -> None:
    amazon.prepare(shops, tmp_path / "out", ["a", "b"], ["b", "c"])
    texts = {s: pl.read_parquet(tmp_path / "out" / s / "items.parquet")["text"].to_list() for s in "abc"}
    assert texts == {"a": ["Ghost, Sports", 'A 5" pan. Pans'], "b": [None], "c": ["Plain text."]}
    assert load_dataset(str(tmp_path / "out")).roles == {"a": ["source"], "b": ["source", "target"], "c": ["target"]}


def test_strict_transfer_leaves_shared_users_out_of_the_sources(shops: Path, tmp_path: Path) -> None:
    amazon.prepare(shops, tmp_path / "out", ["a"], ["b"], drop_shared_users=True)
    left = {
        shop: pl.read_parquet(tmp_path / "out" / shop / "interactions.parquet")["user_id"].to_list() for shop in "ab"
    }
    assert left == {"a": ["u2"], "b": ["u1"]}


def _archive(files: dict[str, str | bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return packed.getvalue()


SMALL = _archive(
    {
        "ml-latest-small/ratings.csv": "userId,movieId,rating,timestamp\n1,10,4.0,964982703\n",
        "ml-latest-small/movies.csv": 'movieId,title,genres\n10,"Misérables, Les (1995)",(no genres listed)\n',
        "../evil.csv": "no",
    }
)
OLD = _archive(
    {
        "ml-1m/ratings.dat": "1::10::5::978300760\n",
        "ml-1m/movies.dat": "10::Amélie (2001)::Comedy|Romance\n".encode("latin-1"),
        "ml-1m/users.dat": "1::F::1::10::48067\n",
    }
)


@pytest.fixture
def server():
    """A local stand-in for the publisher's server: path -> bytes or a status."""
    answers: dict[str, bytes | int] = {}
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answer = answers.get(self.path, 404)
            self.send_response(answer if isinstance(answer, int) else 200)
            self.end_headers()
            self.wfile.write(b"" if isinstance(answer, int) else answer)

        def log_message(self, *args: object) -> None:
            """Quiet."""

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", answers, asked
    running.shutdown()
    running.server_close()


def test_fetched_checked_and_kept(server, tmp_path: Path) -> None:
    url, answers, asked = server
    digest = hashlib.md5(SMALL).hexdigest()
    answers |= {"/ml-latest-small.zip": SMALL, "/ml-latest-small.zip.md5": f"MD5 (x.zip) = {digest}\n".encode()}
    for out in ("one", "two"):
        movielens.prepare("ml-latest-small", None, tmp_path / out, base_url=url, cache=tmp_path / "cache")
    assert asked.count("/ml-latest-small.zip") == 1
    items = pl.read_parquet(tmp_path / "one" / "movies" / "items.parquet").rows()
    assert items[0][0] == "10"
    assert items[0][2] == []
    unpacked = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    assert unpacked == {"ml-latest-small.zip", "ratings.csv", "movies.csv"}


def test_ml_1m_layout(server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, answers, asked = server
    answers["/ml-1m.zip"] = OLD
    monkeypatch.setitem(movielens.RELEASES, "ml-1m", hashlib.md5(OLD).hexdigest())
    movielens.prepare("ml-1m", None, tmp_path / "out", base_url=url, cache=tmp_path / "cache")
    assert asked == ["/ml-1m.zip"]  # its checksum is known
    found = tables(take_snapshot(tmp_path, tmp_path / "out"), "movies")
    assert found["items"].row(0)[:3] == ("10", "Amélie (2001). Comedy, Romance", ["genre:Comedy", "genre:Romance"])
    assert found["users"]["attributes"].to_list() == [["gender:F", "age:1", "occupation:10"]]


@pytest.mark.parametrize(
    ("answers", "error", "sentence"),
    [
        ({}, BadConfiguration, "answered 404: it is not there"),
        ({"/ml-latest-small.zip.md5": 503}, PassingFault, "answered 503; try again later"),
        ({"/ml-latest-small.zip.md5": b"<html>"}, DataBrokeContract, r"\.md5 holds no MD5"),
        (
            {"/ml-latest-small.zip.md5": b"0" * 32, "/ml-latest-small.zip": SMALL},
            DataBrokeContract,
            "the archive's MD5 is",
        ),
    ],
)
def test_a_bad_fetch_leaves_nothing(server, tmp_path: Path, answers: dict, error: type, sentence: str) -> None:
    url, known, _ = server
    known |= answers
    with pytest.raises(error, match=sentence):
        movielens.prepare("ml-latest-small", None, tmp_path / "out", base_url=url, cache=tmp_path / "cache")
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "cache").rglob("*.zip"))


def test_files_that_are_not_as_published(shops: Path, tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("user,movieId,rating,timestamp\n1,10,4.0,soon\n")
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n10,A,B\n")
    with pytest.raises(DataBrokeContract, match="is not ml-25m as published"):
        movielens.prepare("ml-25m", tmp_path, tmp_path / "out")
    (shops / "a" / "interactions.tsv").write_text("user_id\titem_id\tposition\nu\ti\tfirst\n")
    with pytest.raises(DataBrokeContract, match="position should be a whole number"):
        amazon.prepare(shops, tmp_path / "out", ["a"], ["b"])


def test_no_network(tmp_path: Path) -> None:
    with pytest.raises(PassingFault, match="is there a network"):
        movielens.prepare("ml-latest-small", None, tmp_path / "out", base_url="http://127.0.0.1:1", cache=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        (["prepare", "ml-latest-smal"], BadConfiguration, r"did you mean 'ml-latest-small'\?"),
        (["prepare", "ml-1m", "--from", "/nowhere"], BadConfiguration, "--from /nowhere is no folder"),
        (["prepare", "ml-1m", "--from", "."], BadConfiguration, r"has neither ratings\.csv nor ratings\.csv\.gz"),
        (["prepare", "amazon"], BadConfiguration, "give its folder with --from"),
        (["prepare", "amazon", "--from", "."], BadConfiguration, "needs --sources and --targets"),
        (["prepare", "ml-1m", "--protocol", "temporl"], BadConfiguration, r"did you mean 'temporal'\?"),
        (["prepare", "amazon", "--from", ".", "--protocol", "temporal"], BadConfiguration, "an order but no clock"),
        (["world", "--size", "smal"], BadConfiguration, r"did you mean 'small'\?"),
        (["world", "--dirt", "mising_user=1"], BadConfiguration, "there is no kind of dirt 'mising_user'"),
        (["world", "--dirt", "much"], BadConfiguration, "give a share such as 0.01"),
    ],
)
def test_wrong_commands(arguments: list[str], error: type, sentence: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert isinstance(result.exception, error)
    with pytest.raises(error, match=sentence):
        raise result.exception
    assert not (tmp_path / "out").exists()


def test_an_unknown_shop_is_named(shops: Path, tmp_path: Path) -> None:
    with pytest.raises(BadConfiguration, match="has no shop 'x'; known are a, b, c"):
        amazon.prepare(shops, tmp_path / "out", ["x"], ["a"])


def test_world_command(tmp_path: Path) -> None:
    arguments = [
        "world",
        "--size",
        "tiny",
        "--seed",
        "3",
        "--dirt",
        "missing_user=0.1",
        "--out",
        str(tmp_path / "world"),
    ]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    described = yaml.safe_load((tmp_path / "world" / "dataset.yaml").read_text())
    assert list(described["domains"]) == ["metro", "valley", "harbour", "orchard"]
    rows = pl.read_parquet(tmp_path / "world" / "metro" / "interactions.parquet")
    assert rows["user_id"].null_count() > 200


def test_other_folders_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("thesis")
    result = CliRunner().invoke(app, ["world", "--size", "tiny", "--out", str(tmp_path)])
    assert isinstance(result.exception, BadConfiguration)
    assert (tmp_path / "precious").read_text() == "thesis"
