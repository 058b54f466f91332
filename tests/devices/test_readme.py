"""README's Python example, run as it is printed."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest
from onnx import helper
from support.house import ROOT
from support.onnx_models import make_model


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["mean"]), helper.make_node("Flatten", ["mean"], ["y"])]
    onnx.save(make_model(nodes, {"x": [1, 3, 224, 224]}, {"y": [1, 3]}), tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    exec(compile(example, "README.md", "exec"), {})
    lines = sorted(capsys.readouterr().out.splitlines())
    assert [line.split()[0] for line in lines] == ["first", "second"]
    assert all(line.split()[1] in ("0", "1", "2") for line in lines)
