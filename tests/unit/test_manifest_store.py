"""The store of manifests: what is in it is what was put in, or a sentence."""

from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.exit_codes import BadConfiguration
from pipeline.runs import manifest_store

MANIFEST = {"stage": "prune@münchen", "outputs": {"b": 1.5, "a": None}, "metrics": {"x": 0.1}}


def test_it_is_found_again_by_its_content(tmp_path):
    sha = manifest_store.put(tmp_path, MANIFEST)
    assert manifest_store.get(tmp_path, sha) == {**MANIFEST, "sha256": sha}
    assert manifest_store.put(tmp_path, {"sha256": "whatever", **dict(reversed(MANIFEST.items()))}) == sha
    assert manifest_store.path_of(tmp_path, sha) == tmp_path / "manifests" / sha[:2] / f"{sha}.json"
    assert [found["stage"] for found in manifest_store.every(tmp_path)] == ["prune@münchen"]


def test_its_file_is_read_only_and_nothing_lies_beside_it(tmp_path):
    path = manifest_store.path_of(tmp_path, manifest_store.put(tmp_path, MANIFEST))
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert list(path.parent.iterdir()) == [path]


def test_many_at_once_put_one(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: manifest_store.put(tmp_path, MANIFEST), range(40)))) == 1
    assert len(list(manifest_store.names(tmp_path))) == 1


@pytest.mark.parametrize("how", ["another value", "torn", "another manifest", "no object"])
def test_an_altered_one_is_refused(tmp_path, how):
    sha, other = manifest_store.put(tmp_path, MANIFEST), manifest_store.put(tmp_path, {"stage": "other"})
    path = manifest_store.path_of(tmp_path, sha)
    text = {
        "another value": path.read_text().replace("1.5", "1.6"),
        "torn": path.read_text()[:40],
        "another manifest": manifest_store.path_of(tmp_path, other).read_text(),
        "no object": json.dumps([1]),
    }[how]
    path.unlink()
    path.write_text(text)
    with pytest.raises(BadConfiguration, match=f"{path} was altered: .* bring the file back from a backup"):
        manifest_store.get(tmp_path, sha)
    assert manifest_store.get(tmp_path, other)["stage"] == "other"
    with pytest.raises(BadConfiguration, match="altered"):
        list(manifest_store.every(tmp_path))
    assert sorted(manifest_store.names(tmp_path)) == sorted([sha, other])


@pytest.mark.parametrize(("sha", "sentence"), [("0" * 64, "has no manifest 000"), ("../../etc", "names no manifest")])
def test_one_that_is_not_there_is_a_sentence(tmp_path, sha, sentence):
    with pytest.raises(BadConfiguration, match=sentence):
        manifest_store.get(tmp_path, sha)


def test_a_number_that_is_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        manifest_store.put(tmp_path, {"metrics": {"ndcg10": float("nan")}})
    assert not list(manifest_store.names(tmp_path))


def test_the_last_maker_counts(tmp_path):
    assert manifest_store.maker_of(tmp_path, "key") is None
    for sha in ("a" * 64, "b" * 64):
        manifest_store.remember_maker(tmp_path, "key", sha)
    assert manifest_store.maker_of(tmp_path, "key") == "b" * 64
