"""Every command line and every example in README.md and the documentation works."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from support.house import ROOT
from support.judge import Net
from support.markdown import DOCS, PAGES, README, blocks, commands
from support.onnx_models import make_model
from support.quantising import resnet_like, samples

import cpuruntime as ov
from cpuruntime import errors
from cpuruntime.cli import compare, history
from cpuruntime.cli.main import main

COMMANDS = sorted({command for page in PAGES for command in commands(page)})


@pytest.fixture(autouse=True)
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ov.Model:
    """A small model.onnx and a folder of images where examples run; reading it here lets Python examples use it."""
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["mean"]), helper.make_node("Flatten", ["mean"], ["y"])]
    onnx.save(make_model(nodes, {"x": [1, 3, 224, 224]}, {"y": [1, 3]}), tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "black.ppm").write_bytes(b"P6 4 4 255 " + bytes(48))
    _to_quantise(tmp_path)
    (tmp_path / "server.json").write_text(ov.Topology.read().to_json())
    return ov.Core().read_model("model.onnx")


def _to_quantise(folder: Path) -> None:
    """A model, samples in each form, and a quantised model."""
    onnx.save(resnet_like(), folder / "cnn.onnx")
    arrays = [feeds["x"] for feeds in samples(resnet_like(), 4)]
    np.savez(folder / "samples.npz", np.stack(arrays))
    text = "import numpy as np\n\ndef samples():\n    yield from np.load('samples.npz')['arr_0']\n"
    (folder / "feeds.py").write_text(text)
    (folder / "photos").mkdir()
    for number, array in enumerate(arrays):
        pixels = np.clip(128 + 40 * array[0].transpose(1, 2, 0), 0, 255).astype(np.uint8)
        (folder / "photos" / f"{number}.ppm").write_bytes(b"P6 12 12 255 " + pixels.tobytes())
    net = Net()
    weight = net.constant([[1], [2]], np.int8)
    product = net("MatMul", net.input(1, 2), net("DequantizeLinear", weight, net.constant(1.0)))
    net.output(product)
    onnx.save(net.model(), folder / "quantised.onnx")


def run(command: str) -> None:
    """Runs a command line: `cpuruntime` on a small model for a short time, scripts up to their options.

    Raises AssertionError, or what the command raises, when it cannot be right.
    """
    program, *arguments = shlex.split(command.removeprefix(".venv/bin/"))
    if program == "cpuruntime":
        _cpuruntime(arguments)
    elif program == "pip":
        install, *options, extra = arguments
        assert (install, options) == ("install", ["-q", "-e"])
        _extra(extra)
    elif program == "pytest" or arguments[:2] == ["-m", "pytest"]:
        _pytest(arguments if program == "pytest" else arguments[2:])
    else:
        assert program == "python", command
        _script(*arguments)


def _cpuruntime(arguments: list[str]) -> None:
    name = arguments[0]
    if name in ("compare", "history"):  # their runs take minutes
        parser = {"compare": compare, "history": history}[name].parser()
        parser.parse_args(arguments[1:] or ["suite.toml"])
        return
    if name in ("benchmark", "plan") and not {"-m", "--record"} & {*arguments}:
        arguments = [*arguments, "-m", "model.onnx"]
    if name == "benchmark" and "-niter" not in arguments:
        arguments = [*arguments, "-t", "1"]  # the last one counts
    assert main(arguments) == 0


def _extra(text: str) -> None:
    (name,) = re.fullmatch(r"\.\[([\w-]+)\]", text).groups()  # type: ignore[union-attr]
    assert re.search(rf"^{name} = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


def _pytest(arguments: list[str]) -> None:
    if "--pyargs" in arguments:
        command = [sys.executable, "-m", "pytest", "-p", "cpuruntime.testing.plugin", "--collect-only", *arguments]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
        return
    if "-m" in arguments:
        at = arguments.index("-m")
        assert f'"markers", "{arguments[at + 1]}: ' in (ROOT / "tests" / "conftest.py").read_text(), arguments
        del arguments[at : at + 2]
    for argument in arguments:
        assert argument == "-q" or (ROOT / argument).exists(), argument


def _script(path: str, *arguments: str) -> None:
    assert (ROOT / path).is_file(), path
    if path.startswith("bench/"):
        # A module called `coverage` would hide the package that Numba imports.
        module = {"coverage": "suite.command"}.get(Path(path).stem, Path(path).stem)
        importlib.import_module(module).parser().parse_args(arguments)
    else:
        assert not arguments


@pytest.mark.parametrize("command", [command for command in COMMANDS if "&&" not in command])
def test_a_command_works(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(command)


@pytest.mark.parametrize(
    "command",
    [
        "cpuruntime benchmark -hnt latency",
        "cpuruntime docs strems",
        "cpuruntime plan --topology missing.json",
        'pip install -q -e ".[bnch]"',
        "python -m pytest -q tests/missing",
        "python -m pytest -q -m qick",
        "python bench/peers.py --mode latency1",
        "python bench/missing.py",
        "make test",
    ],
)
def test_a_wrong_command_is_found(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((AssertionError, SystemExit)):
        run(command)


@pytest.mark.parametrize("end", ["cpuruntime benchmark -t 10", "python -m pytest -q"])
def test_the_first_screen_has_the_two_commands(end: str) -> None:
    first_screen = README.read_text().splitlines()[:30]
    (line,) = [line for line in first_screen if line.startswith("python3 -m venv .venv && ") and line.endswith(end)]
    _, install, command = line.split(" && ")
    assert re.fullmatch(r'\.venv/bin/pip install -q (\.|-e "\.\[test\]")', install)
    run(command)


def test_the_job_of_the_ci_page_calls_commands_that_there_are() -> None:
    (job,) = blocks(ROOT / "cpuruntime" / "docs" / "ci.md", "yaml")
    (line,) = re.findall(r"cpuruntime compare ([^\n]*\n[^\n]*)\n", job)
    compare.parser().parse_args(shlex.split(line.replace("${{ github.base_ref }}", "main")))


def test_no_other_command_is_a_list_of_commands() -> None:
    assert sum("&&" in command for command in COMMANDS) == 2


def test_ci_runs_the_test_command() -> None:
    (command,) = [command for command in commands(README) if "&&" in command and command.endswith("-m pytest -q")]
    assert command in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_first_example_runs_as_it_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks(README, "python")
    exec(compile(example, "README.md", "exec"), {})
    lines = sorted(capsys.readouterr().out.splitlines())
    assert [line.split()[0] for line in lines] == ["first", "second"]
    assert all(line.split()[1] in ("0", "1", "2") for line in lines)


@pytest.mark.parametrize(
    "page", [page for page in DOCS if page.stem != "extending" and blocks(page, "py")], ids=lambda page: page.stem
)
def test_the_examples_of_a_page_run(page: Path, model: ov.Model, capsys: pytest.CaptureFixture[str]) -> None:
    core = ov.Core()
    reason = core.unavailable_devices.get(page.stem.upper())
    if reason is not None:
        pytest.skip(reason)
    names = {"ov": ov, "core": core, "model": model, "compiled": core.compile_model(model, "CPU")}
    names["inputs"] = {0: ov.Tensor(ov.Type.f32, ov.Shape([1, 3, 224, 224])).data}
    for example in blocks(page, "py"):
        example = re.sub(r"deadline_ms=\d+", "deadline_ms=600000", example)  # the machine may be busy
        if "await " in example:
            body = "".join(f"    {line}\n" for line in example.splitlines())
            example = f"import asyncio\nasync def example():\n{body}asyncio.run(example())\n"
        exec(compile(example, page.name, "exec"), names)


def test_the_description_of_a_machine_is_read() -> None:
    (text,) = [text for page in PAGES for text in blocks(page, "json")]
    assert ov.Topology.from_json(text).usable == 8


def test_every_error_is_in_the_table_with_the_built_in_it_is() -> None:
    (page,) = [page for page in DOCS if page.stem == "requests"]
    table = re.findall(r"^\| `(\w+Error)` \| (?:`(\w+)`)? ?\|", page.read_text(), re.MULTILINE)
    found = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, ov.Error)}
    assert sorted(name for name, _ in table) == sorted(found.keys() - {"Error"})
    for name, builtin in table:
        own = [kind.__name__ for kind in found[name].__mro__ if kind.__module__ == "builtins"]
        others = [kind for kind in own if kind not in ("RuntimeError", "Exception", "BaseException", "object")]
        assert builtin in others if builtin else not others, name
