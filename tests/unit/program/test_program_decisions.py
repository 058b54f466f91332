"""Decisions on disk: published, found, and ignored when they are damaged or about something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cpuruntime.program.tuning.decisions import Decision, Decisions
from cpuruntime.store import Folder

NAMES = ["tile 8x2", "tile 7x2"]
DECISION = Decision(1, (2e-3, None))


def only_file(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


@pytest.mark.parametrize("folder", [True, False])
def test_what_is_published_is_found(tmp_path: Path, folder: bool) -> None:
    decisions = Decisions(Folder(tmp_path if folder else None))
    assert decisions.find("key", NAMES) is None
    assert decisions.publish("key", NAMES, DECISION) == DECISION
    assert decisions.find("key", NAMES) == DECISION
    assert decisions.find("other", NAMES) is None
    assert decisions.find("key", [*NAMES, "tile 1x1"]) is None
    assert len(list(tmp_path.iterdir())) == folder


def test_another_process_finds_it(tmp_path: Path) -> None:
    Decisions(Folder(tmp_path)).publish("key", NAMES, DECISION)
    assert Decisions(Folder(tmp_path)).find("key", NAMES) == DECISION


def test_the_first_decision_stays(tmp_path: Path) -> None:
    first, second = Decisions(Folder(tmp_path)), Decisions(Folder(tmp_path))
    assert second.find("key", NAMES) is None
    first.publish("key", NAMES, DECISION)
    assert second.publish("key", NAMES, Decision(0, (1e-3, 2e-3))) == DECISION
    assert second.find("key", NAMES) == DECISION


VALID = {"names": NAMES, "chosen": 1, "seconds": [2e-3, None]}


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", "\x00\xff", json.dumps({**VALID, "chosen": 2}), json.dumps({**VALID, "chosen": -1}),
        json.dumps({**VALID, "chosen": True}), json.dumps({**VALID, "chosen": "1"}), json.dumps({**VALID, "names": []}),
        json.dumps({**VALID, "seconds": [2e-3]}), json.dumps({**VALID, "seconds": ["x", None]}),
        json.dumps({**VALID, "seconds": [float("nan"), None]}), json.dumps({**VALID, "seconds": 3}),
        json.dumps({"names": NAMES, "chosen": 1}),
    ],
)  # fmt: skip
def test_damaged_files_are_as_good_as_none(tmp_path: Path, content: str) -> None:
    Decisions(Folder(tmp_path)).publish("key", NAMES, DECISION)
    only_file(tmp_path).write_text(content)
    assert Decisions(Folder(tmp_path)).find("key", NAMES) is None
    assert Decisions(Folder(tmp_path)).publish("key", NAMES, DECISION) == DECISION
    assert Decisions(Folder(tmp_path)).find("key", NAMES) == DECISION


def test_a_folder_that_cannot_be_written_to_costs_nothing_but_time(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    decisions = Decisions(Folder(tmp_path / "file"))
    assert decisions.publish("key", NAMES, DECISION) == DECISION
    assert decisions.find("key", NAMES) == DECISION
