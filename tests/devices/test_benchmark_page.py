"""The page of `cpuruntime benchmark --report`, read as text and in a browser where one is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from support.hostile_names import hostile
from support.onnx_models import make_model

from cpuruntime.cli.main import main

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "google-chrome"))), None)


class Page(HTMLParser):
    """What a page holds: the figures by name, the rows of steps, the tags, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.figures: dict[str, float] = {}
        self.ids: set[str] = set()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.tags.append(tag)
        self.ids.add(found.get("id") or "")
        if (value := found.get("data-value")) is not None:
            self.figures[found["id"] or ""] = float(value)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[Path, str]:
    """A page of a model with hostile names, and what the command printed."""
    x, y, w = (f"<script>alert('{hostile(name)}')</script>" for name in ("x", "y", "w"))
    nodes = [
        helper.make_node("MatMul", [x, w], ["product"], name=x),
        helper.make_node("Relu", ["product"], [y], name=y),
    ]
    model = make_model(nodes, {x: [1, 64]}, {y: [1, 64]})
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((64, 64), np.float32), w))
    onnx.save(model, tmp_path / "model.onnx")
    path = tmp_path / "page.html"
    arguments = ["-m", str(tmp_path / "model.onnx"), "-niter", "300", "-api", "sync", "--report", str(path)]
    code = main(["benchmark", *arguments])
    written = capsys.readouterr()
    assert code == 0, written.err
    return path, written.out


def test_the_page_has_the_figures_that_are_printed(page: tuple[Path, str]) -> None:
    path, output = page
    found = Page(path.read_text())
    check(found, output)
    assert "script" not in found.tags
    assert "kernels are compiled for" in found.text
    assert re.search(r"MatMul|FullyConnected", found.text)
    assert not re.search(r"https?://|src=|href=", path.read_text()), "the page needs nothing else"


def check(found: Page, output: str) -> None:
    """The page's figures are those printed."""
    printed = re.search(r"p50 / p90 / p99 / p99.9: ([\d.]+) / ([\d.]+) / ([\d.]+) / ([\d.]+) (ms|us)", output)
    assert printed
    *values, unit = printed.groups()
    figures = [found.figures[name] * (1000 if unit == "us" else 1) for name in ("p50", "p90", "p99", "p99.9")]
    assert figures == pytest.approx([float(value) for value in values], abs=0.006)
    throughput = re.search(r"Throughput: +([\d.]+)", output)
    assert throughput
    assert found.figures["throughput"] == pytest.approx(float(throughput[1]), abs=0.006)
    assert {"histogram", "timeline", "steps"} <= found.ids


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_browser_shows_the_figures_without_an_error(page: tuple[Path, str], tmp_path: Path) -> None:
    path, output = page
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
               f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    check(Page(done.stdout), output)
    assert "CONSOLE" not in done.stderr


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_an_error_in_a_page_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "wrong.html"
    path.write_text("<script>missing()</script>")
    command = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--dump-dom",
               f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()]  # fmt: skip
    assert "CONSOLE" in subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stderr
