"""bench/saturation.py: what it calls exact is what ONNX's reference computes, and can saturate."""

from __future__ import annotations

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

import saturation


@pytest.mark.parametrize("row", saturation.rows(), ids=str)
def test_the_exact_results(row: tuple[str, str, str, int]) -> None:
    model, feeds = saturation.row_model(*row)
    (result,) = ReferenceEvaluator(model).run(None, feeds)
    assert np.unique(result).tolist() == [saturation.exact(*row)]
    assert result.max() <= 255
