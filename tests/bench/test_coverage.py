"""bench/coverage.py: the suite's cases, outcomes, and processes that crash or hang."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from suite import pool
from suite.cases import cases, families
from suite.command import main
from suite.engines import attempt
from suite.pool import Suite
from suite.report import document, general

# Answers for the cases 1 to 3 of each family; the second ends the process, or is never answered.
WORKER = """
import json, sys, time
for line in sys.stdin:
    command = json.loads(line)
    for case in ("1", "2", "3"):
        if [case, "cpuruntime"] in command["done"]:
            continue
        print(json.dumps({"begin": [case, "cpuruntime"], "kind": "node", "operator": "Relu"}), flush=True)
        if case == "2":
            FAULT
        print(json.dumps({"outcome": "kernels", "reason": ""}), flush=True)
    print(json.dumps({"end": True}), flush=True)
"""


def test_a_generated_case_is_the_same_each_time() -> None:
    first, again = (list(cases("node.relu")) for _ in range(2))
    assert [case.name for case in first] == [case.name for case in again]
    assert "test_relu" in [case.name for case in first]
    assert first[0].data_sets[0][0][0].tobytes() == again[0].data_sets[0][0][0].tobytes()


def test_there_are_families_of_all_kinds() -> None:
    found = families()
    assert {"node.conv", "node.ai_onnx_ml.binarizer", "simple", "real"} <= {*found}
    assert len(found) == len({*found})


@pytest.mark.parametrize("engine", ["cpuruntime", "onnxruntime"])
def test_another_result_is_wrong(engine: str) -> None:
    case = next(cases("node.relu"))
    assert attempt(engine, case)[0] in ("kernels", "pass")
    (inputs, outputs), *_ = case.data_sets
    wrong = replace(case, data_sets=[(inputs, [outputs[0] + 1])])
    assert attempt(engine, wrong)[0] == "wrong"
    other = replace(case, data_sets=[(inputs, [outputs[0].astype("float64")])])
    assert attempt(engine, other)[0] == "wrong"


@pytest.mark.parametrize("engine", ["cpuruntime", "onnxruntime"])
def test_sequences_are_compared_tensor_by_tensor(engine: str) -> None:
    case = {case.name: case for case in cases("node.splittosequence")}["test_split_to_sequence_1"]
    assert attempt(engine, case)[0] in ("kernels", "pass")
    (inputs, ((*parts, last),)), *_ = case.data_sets
    for wrong in ([*parts, last + 1], parts, [*parts, last, last]):
        assert attempt(engine, replace(case, data_sets=[(inputs, [wrong])]))[0] == "wrong"


@pytest.mark.parametrize(
    ("fault", "outcome"), [("import os; os._exit(7)", "crash"), ("time.sleep(60)", "hang")], ids=["crash", "hang"]
)
def test_the_cases_after_a_crash_or_a_hang_are_run(
    fault: str, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "faulty_worker.py").write_text(WORKER.replace("FAULT", fault))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(pool, "WORKER", "faulty_worker")
    suite = Suite(["node.relu"], ["cpuruntime"], "", 2.0)
    suite.run(1, lambda text: None)
    assert {name: found.outcomes["cpuruntime"][0] for name, found in suite.cases.items()} == {
        "1": "kernels",
        "2": outcome,
        "3": "kernels",
    }
    assert f"## {outcome}" in document(suite.cases, "")


def test_the_command_runs_what_it_is_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--only", "^test_(relu|abs)$", "--engine", "cpuruntime", "--processes", "1"]
    assert main([*arguments, "--json", str(tmp_path / "found.json"), "--report", str(tmp_path)]) == 0
    found = json.loads((tmp_path / "found.json").read_text())["cases"]
    assert {name: facts["outcomes"]["cpuruntime"][0] for name, facts in found.items()} == {
        "test_abs": "kernels",
        "test_relu": "kernels",
    }
    assert "| node | 2 | 2 |" in capsys.readouterr().out
    assert "| node | 2 | 2 |" in (tmp_path / "coverage.md").read_text()


def test_reasons_are_grouped_without_names_and_numbers() -> None:
    reason = "NonZero 'n' (opset 20): the shape of its output 'y' depends on data; the CPU device needs shapes."
    assert general(reason) == "the shape of its output '..' depends on data"
