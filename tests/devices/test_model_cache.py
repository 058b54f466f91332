"""The folder of CACHE_DIR: what is found again, what is compiled anew, and what only costs time."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support.judge import Net
from support.stored_models import CONFIG, compile_in, convolutional, feeds, is_loaded, results

import cpuruntime as ov
from cpuruntime.errors import UnsupportedError
from cpuruntime.store.private import PrivateFolder


def test_a_second_compilation_loads_what_the_first_one_stored(file: Path, cache: Path) -> None:
    first = compile_in(cache, file)
    second = compile_in(cache, str(file))
    assert (is_loaded(first), is_loaded(second)) == (False, True)
    inputs = feeds(convolutional())
    assert results(second, inputs) == results(first, inputs)
    for model in (file.read_bytes(), ov.Core().read_model(file), onnx.load(file)):
        compiled = [compile_in(cache, model) for _ in range(2)]
        assert is_loaded(compiled[1])
        assert results(compiled[1], inputs) == results(first, inputs)


def test_settings_that_matter_make_another_entry(file: Path, cache: Path) -> None:
    compile_in(cache, file)
    assert not is_loaded(compile_in(cache, file, EXECUTION_MODE_HINT="ACCURACY"))
    assert is_loaded(compile_in(cache, file, EXECUTION_MODE_HINT="ACCURACY"))
    assert is_loaded(compile_in(cache, file, PERF_COUNT=True))


def test_a_model_that_changed_is_compiled_again(file: Path, cache: Path) -> None:
    compile_in(cache, file)
    before = file.stat()
    other = convolutional(seed=1)
    content = other.SerializeToString()
    assert len(content) == before.st_size
    with file.open("r+b") as opened:
        opened.write(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    compiled = compile_in(cache, file)
    assert not is_loaded(compiled)
    inputs = feeds(other)
    assert results(compiled, inputs) == results(ov.Core().compile_model(other, "CPU", CONFIG), inputs)


def test_external_data_that_changed_are_noticed(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "model.onnx"
    found = []
    for seed in (0, 1):
        onnx.save(convolutional(seed), path, save_as_external_data=True, location="data", size_threshold=64)
        found.append([compile_in(cache, path) for _ in range(2)])
        (tmp_path / "data").rename(tmp_path / "old") if not seed else None
    assert [[is_loaded(one) for one in pair] for pair in found] == [[False, True]] * 2
    inputs = feeds(convolutional())
    (first, again), (other, _) = [[results(one, inputs) for one in pair] for pair in found]
    assert first == again != other


def test_a_file_that_was_read_before_is_not_read_again(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cpuruntime.cache import contents

    monkeypatch.setattr(contents, "RECENT", 0)
    compile_in(cache, file)
    monkeypatch.setattr(contents, "file_digest", None)
    assert is_loaded(compile_in(cache, file))
    os.utime(file)
    monkeypatch.setattr(contents, "file_digest", lambda path: "other")
    assert not is_loaded(compile_in(cache, file))


def test_damaged_files_are_compiled_anew(file: Path, cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = results(compile_in(cache, file), feeds(convolutional()))
    (stored,) = cache.glob("*.model")
    content = stored.read_bytes()
    for damaged in (b"", content[:100], content[:-4096], content[:-9] + b"x" * 9, b"x" * len(content)):
        stored.write_bytes(damaged)
        caplog.clear()
        compiled = compile_in(cache, file)
        assert not is_loaded(compiled)
        assert results(compiled, feeds(convolutional())) == expected
        (line,) = [record.getMessage() for record in caplog.records]
        assert f"{stored.name} in {cache} is not used, the model is compiled: it is" in line or "its " in line
        assert is_loaded(compile_in(cache, file)), "it was stored again"


def test_a_folder_that_others_can_write_to_is_not_used(
    file: Path, cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache.mkdir()
    cache.chmod(0o777)
    for _ in range(2):
        assert not is_loaded(compile_in(cache, file))
    assert "other users can write to it" in caplog.text
    assert not list(cache.iterdir())


def test_a_folder_that_cannot_be_made_costs_only_time(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    compiled = compile_in(Path("/proc/none"), file)
    assert results(compiled, feeds(convolutional()))
    assert "cannot be used, nothing is cached there" in caplog.text


def dynamic() -> onnx.ModelProto:
    n = Net()
    n.output(n("NonZero", n.input(3, 3)))
    return n.model()


def test_models_that_are_not_stored_say_so_and_compile(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cpuruntime")
    compiled = compile_in(cache, dynamic().SerializeToString())
    assert compiled(np.eye(3, dtype=np.float32))[0].shape == (2, 3)
    assert "cannot be stored: shapes in it depend on data" in caplog.text  # there is nothing before them
    with pytest.raises(UnsupportedError, match="depend on data"):
        compiled.export_model()
    with pytest.raises(UnsupportedError, match="REFERENCE cannot be stored"):
        ov.Core().compile_model(convolutional(), "REFERENCE").export_model()
    target = compile_in(cache, convolutional(), LATENCY_TARGET_MS=1000, CACHE_DIR=str(cache))
    assert not is_loaded(target)
    assert "CACHE_DIR has no effect: models with LATENCY_TARGET_MS are not stored" in caplog.text


@pytest.mark.parametrize(("number", "text"), [(28, "No space left on device"), (30, "Read-only file system")])
def test_a_folder_that_cannot_be_written_costs_only_time(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, number: int, text: str
) -> None:
    """What was stored earlier is still used."""
    other = compile_in(cache, file)
    opened = PrivateFolder.open_file

    def refuse(folder: PrivateFolder, name: str, flags: int = os.O_RDONLY) -> Any:
        if flags & os.O_CREAT:
            raise OSError(number, text)
        return opened(folder, name, flags)

    monkeypatch.setattr(PrivateFolder, "open_file", refuse)
    before = sorted(cache.iterdir())
    for _ in range(2):
        caplog.clear()
        compiled = compile_in(cache, file, EXECUTION_MODE_HINT="ACCURACY")
        assert not is_loaded(compiled)
        assert compiled(feeds(convolutional()))[0].shape == (1, 10)
        (line,) = [record.getMessage() for record in caplog.records]
        assert "could not be written" in line
        assert text in line
    assert is_loaded(compile_in(cache, file))
    assert sorted(cache.iterdir()) == before
    assert not is_loaded(other)


def test_a_small_file_has_no_weights_that_the_model_file_has(tmp_path: Path, cache: Path) -> None:
    n = Net()
    x = n("Relu", n.conv(n.input(1, 64, 28, 28), 64, 256, pads=[1] * 4))
    n.output(n("MatMul", n("Flatten", n("GlobalAveragePool", x)), n.weights(256, 1200)))
    path, sizes = tmp_path / "model.onnx", {}
    onnx.save(n.model(), path)
    for mode in ("OPTIMIZE_SIZE", "OPTIMIZE_SPEED"):
        before = {*cache.glob("*.model")}
        first, second = (compile_in(cache, path, CACHE_MODE=mode) for _ in range(2))
        assert (is_loaded(first), is_loaded(second)) == (False, True)
        assert results(first, feeds(n.model())) == results(second, feeds(n.model()))
        (made,) = {*cache.glob("*.model")} - before
        sizes[mode] = made.stat().st_size
    assert sizes["OPTIMIZE_SIZE"] < sizes["OPTIMIZE_SPEED"] - 1_200_000
    small = min(cache.glob("*.model"), key=lambda file: file.stat().st_size)
    content = small.read_bytes()
    for place in range(0, len(content), len(content) // 50):
        small.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        (cache / small.name).chmod(0o600)
        compiled = compile_in(cache, path, CACHE_MODE="OPTIMIZE_SIZE")
        assert results(compiled, feeds(n.model())) == results(first, feeds(n.model()))


def test_models_with_external_data_are_stored_whole(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(convolutional(), path, save_as_external_data=True, location="data", size_threshold=64)
    first, second = (compile_in(cache, path, CACHE_MODE="OPTIMIZE_SIZE") for _ in range(2))
    assert is_loaded(second)
    assert results(first, feeds(convolutional())) == results(second, feeds(convolutional()))
