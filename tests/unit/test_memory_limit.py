"""What the kernel tells of a container's memory, in both versions of control groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.runs.memory_limit import MemoryLimit, memory_limit

GIB = 2**30


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"memory.{name}").write_text(text)
    return folder


def test_version_2(tmp_path):
    write(tmp_path, max=f"{GIB}\n", peak=f"{GIB - 4096}\n", events="low 0\noom 2\noom_kill 1\noom_group_kill 0\n")
    assert memory_limit(tmp_path) == MemoryLimit(GIB, GIB - 4096, 1)


def test_version_1(tmp_path):
    oom = "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"
    write(tmp_path / "memory", limit_in_bytes=f"{GIB}\n", max_usage_in_bytes=f"{GIB}\n", oom_control=oom)
    assert memory_limit(tmp_path) == MemoryLimit(GIB, GIB, 2)


@pytest.mark.parametrize("files", [{}, {"max": "max\n"}])
def test_without_a_limit_there_is_nothing_to_tell(tmp_path, files):
    assert memory_limit(write(tmp_path, **files)) is None


def test_version_1_writes_no_limit_as_a_number(tmp_path):
    write(
        tmp_path / "memory",
        limit_in_bytes="9223372036854771712\n",
        max_usage_in_bytes="1\n",
        oom_control="oom_kill 0\n",
    )
    assert memory_limit(tmp_path) is None


def test_the_sentence_has_the_limit_the_peak_and_what_to_change():
    sentence = MemoryLimit(4 * GIB, 3 * GIB, 1).sentence()
    assert "may use 4.00 GiB and used 3.00 GiB" in sentence
    assert "meta.memory" in sentence
