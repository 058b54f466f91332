"""The command `cpuruntime cache`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.stored_models import CONFIG, compile_in, convolutional, feeds, results

import cpuruntime as ov
from cpuruntime.cli.main import main


def command(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, list[str]]:
    code = main(["cache", *map(str, arguments)])
    found = capsys.readouterr()
    return code, (found.out + found.err).splitlines()


def test_the_command_lists_verifies_and_exports(
    file: Path, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled = compile_in(cache, file)
    capsys.readouterr()
    code, (line, total) = command(capsys, "list", cache)
    assert (code, total.startswith("1 models, ")) == (0, True)
    assert "'small' on CPU, made by cpuruntime" in line
    assert "not used" not in line
    name = line.split()[0]
    exported = tmp_path / "exported"
    assert command(capsys, "export", cache, name[:8], "-o", exported)[0] == 0
    imported = ov.Core().import_model(exported, "CPU", CONFIG)
    assert results(imported, feeds(convolutional())) == results(compiled, feeds(convolutional()))
    assert command(capsys, "verify", cache)[0] == 0
    content = bytearray((cache / name).read_bytes())
    content[-1] ^= 1
    (cache / name).write_bytes(content)
    code, lines = command(capsys, "verify", cache)
    assert (code, lines[-1]) == (1, f"[ ERROR ] 1 of 1 models are damaged: {name}.")
    assert "not used: its section 'weights' is damaged" in lines[0]
    assert command(capsys, "export", cache, name, "-o", tmp_path / "other")[0] == 1
    assert not (tmp_path / "other").exists()


def test_the_command_prunes(file: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for mode in ("PERFORMANCE", "ACCURACY"):
        compile_in(cache, file, EXECUTION_MODE_HINT=mode)
    old, new = sorted(cache.glob("*.model"), key=lambda path: path.stat().st_mtime_ns)
    os.utime(old, (0, 0))
    (cache / "truncated.model").write_bytes(new.read_bytes()[:5000])
    assert command(capsys, "prune", cache)[0] == 0
    assert set(cache.glob("*.model")) == {old, new}
    most = -(-new.stat().st_size // 2**20)
    assert command(capsys, "prune", cache, "--size", most)[0] == 0
    left = set(cache.glob("*.model"))
    assert new in left
    assert sum(path.stat().st_size for path in left) <= most * 2**20
    assert command(capsys, "prune", cache, "--size", 0)[0] == 0
    assert not list(cache.glob("*.model"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["list", "/nowhere"], "there is no folder '/nowhere'."),
        (["export", "."], "'cache export' needs a folder, a model and -o FILE"),
        (["list", ".", "--size", "3"], "--size is for 'cache prune'."),
        (["export", ".", "none", "-o", "x"], "0 models have names that begin with 'none'"),
    ],
)
def test_wrong_uses_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    code, lines = command(capsys, *arguments)
    assert code == 1
    assert message in lines[0]
