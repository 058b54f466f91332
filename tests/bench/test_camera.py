"""bench/camera.py: both loops infer each frame once, in order; nothing here depends on speed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.onnx_models import one_input

import camera
import cpuruntime as ov


@pytest.mark.parametrize("loop", [camera.one_request, camera.two_requests])
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_a_loop_infers_each_frame_once_in_order(loop: camera.Loop, frames: int) -> None:
    compiled = ov.Core().compile_model(one_input(), "REFERENCE")
    results = list(loop(camera.Camera((2, 3), 0.0), compiled, frames))
    assert [-result[0, 0] for result in results] == list(range(frames))


def test_a_frame_is_captured_while_the_one_before_is_inferred() -> None:
    compiled = ov.Core().compile_model(one_input(), "REFERENCE")
    source = camera.Camera((2, 3), 0.0)
    next(loop := camera.two_requests(source, compiled, 5))
    assert source.count == 2
    next(loop)
    assert source.count == 3


def test_the_report(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    onnx.save(one_input(), tmp_path / "model.onnx")
    assert camera.main(["-m", str(tmp_path / "model.onnx"), "--capture", "1", "--frames", "3", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("ms")
    assert "capture 1.0 ms" in lines[0]
    assert lines[2].startswith("two requests ")
    assert "times as many" in lines[2]
    assert camera.main(["-m", "light:resnet"]) == 1
    assert "Did you mean" in capsys.readouterr().err
    assert np.isfinite(float(lines[1].split()[2]))
