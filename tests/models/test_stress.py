"""bench/stress.py in small: requests over three models under random faults, and none is lost."""

from __future__ import annotations

import gc
from collections import Counter

import pytest

from stress import Stress


@pytest.mark.parametrize("drops", [0, 12])
def test_every_request_is_accounted_for_once(drops: int) -> None:
    stress = Stress(6_000, drops)
    stress.run()
    assert stress.faults == []
    assert stress.outcomes.total() == 6_000
    assert stress.outcomes["done"] > 3_000
    assert all(stress.outcomes[name] for name in ("CancelledError", "DeadlineExceededError", "RaisedInCallback"))
    assert bool(drops) or not stress.outcomes["abandoned"]
    gc.collect()


def test_the_books_would_show_it() -> None:
    stress = Stress(8, 0, threads=1)
    stress.run()
    stress.stage.accounted[3] = 0
    stress.stage.calls[5] += 1
    assert [fault.split(":")[0] for fault in stress.faults] == [
        "1 requests were not accounted for as often as they should",
        "1 requests were not called back as often as they should",
    ]
    assert isinstance(stress.outcomes, Counter)
