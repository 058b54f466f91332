"""Compiled models in files: exported and imported, and stored in the folder of CACHE_DIR."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from support import stored_mutants
from support.judge import Net, random_inputs

import cpuruntime as ov
from cpuruntime.cli.main import main
from cpuruntime.errors import ModelError, UnsupportedError, WrongTypeError
from cpuruntime.store import SectionFile, written

CONFIG = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "COMPILE_MODE": "OPTIMIZED"}


def convolutional(seed: int = 0) -> onnx.ModelProto:
    n = Net(seed=seed)
    x = n("Relu", n.conv(n.input(1, 3, 20, 20), 3, 32, pads=[1] * 4))
    x = n("Add", x, n.conv(x, 32, 32, pads=[1] * 4))
    n.output(n("Gemm", n("Flatten", n("GlobalAveragePool", x)), n.weights(32, 10), n.weights(10)))
    return n.model()


def batched() -> onnx.ModelProto:
    """A batch that is split."""
    n = Net()
    x = n.input(8, 3, 64, 64)
    for channels in (3, 64):
        x = n("Relu", n.conv(x, channels, 64, pads=[1] * 4))
    n.output(n("GlobalAveragePool", x))
    return n.model()


def indexed() -> onnx.ModelProto:
    """A kernel that reports faults, and two outputs of which one is an input."""
    n = Net()
    x = n.input(5, 4)
    n.output(n("Gather", x, n.input(3, dtype=np.int64)), n("Sigmoid", x))
    return n.model()


def recurrent() -> onnx.ModelProto:
    n = Net()
    hidden, *_ = n("LSTM", n.input(6, 1, 8), n.weights(1, 64, 8), n.weights(1, 64, 16), hidden_size=16), None
    n.output(hidden)
    return n.model()


STORED = {"convolutional": convolutional, "batched": batched, "indexed": indexed, "recurrent": recurrent}


def feeds(model: onnx.ModelProto) -> list[np.ndarray]:
    arrays = [np.ascontiguousarray(array) for array in random_inputs(model).values()]
    return [np.array([4, 0, 2]) if array.dtype == np.int64 else array for array in arrays]


def results(compiled: ov.CompiledModel, inputs: list[np.ndarray]) -> list[bytes]:
    found = compiled(inputs)
    return [found[index].tobytes() for index in range(len(compiled.outputs))]


def compile_in(folder: Path, model: Any, **config: Any) -> ov.CompiledModel:
    return ov.Core().compile_model(model, "CPU", {**CONFIG, "CACHE_DIR": folder, **config})


def is_loaded(compiled: ov.CompiledModel) -> bool:
    found: bool = compiled.get_property("LOADED_FROM_CACHE")
    return found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(convolutional(), path)
    os.utime(path)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.mark.parametrize("name", STORED)
def test_an_exported_model_computes_the_same_bits(name: str) -> None:
    model = STORED[name]()
    compiled = ov.Core().compile_model(model, "CPU", CONFIG)
    inputs = feeds(model)
    expected = results(compiled, inputs)
    stream = compiled.export_model()
    assert isinstance(stream, BytesIO)
    content = stream.getvalue()
    for source in (stream, content, bytearray(content), ov.Tensor(np.frombuffer(content, np.uint8))):
        imported = ov.Core().import_model(source, "CPU", {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1})
        assert results(imported, inputs) == expected
        assert is_loaded(imported)
        assert not is_loaded(compiled)
        assert [str(port) for port in imported.outputs] == [str(port) for port in compiled.outputs]
    again = imported.export_model().getvalue()
    assert results(ov.Core().import_model(again, "CPU", CONFIG), inputs) == expected


def test_an_imported_model_explains_itself_as_the_first_one_did() -> None:
    model = convolutional()
    compiled = ov.Core().compile_model(model, "CPU", {**CONFIG, "PERF_COUNT": True})
    imported = ov.Core().import_model(compiled.export_model(), "CPU", {**CONFIG, "PERF_COUNT": True})
    assert imported.explain().rows == compiled.explain().rows
    assert str(imported.get_runtime_model().graph) == str(compiled.get_runtime_model().graph)
    request = imported.create_infer_request()
    request.infer(feeds(model))
    first = compiled.create_infer_request()
    first.infer(feeds(model))
    assert [row.exec_type for row in request.profiling_info] == [row.exec_type for row in first.profiling_info]
    assert all(row.status.name == "EXECUTED" for row in request.profiling_info)
    assert any(row.gflops for row in imported.explain(measure=True).rows)


def test_faults_are_reported_as_before() -> None:
    model = indexed()
    compiled = ov.Core().compile_model(model, "CPU", CONFIG)
    imported = ov.Core().import_model(compiled.export_model(), "CPU", CONFIG)
    said = []
    for one in (compiled, imported):
        with pytest.raises(ov.Error) as raised:
            one([feeds(model)[0], np.array([0, 9, 0])])
        said.append(str(raised.value))
    assert said[0] == said[1]


def test_names_and_layouts_of_ports_are_stored() -> None:
    model = ov.Core().read_model(convolutional())
    model.input(0).get_node().set_friendly_name("picture")
    model.input(0).tensor.set_names({"p", "q"})
    model.input(0).get_node().layout = ov.Layout("NCHW")
    compiled = ov.Core().compile_model(model, "CPU", CONFIG)
    imported = ov.Core().import_model(compiled.export_model(), "CPU", CONFIG)
    port = imported.input("p")
    assert (port.get_node().get_friendly_name(), port.names) == ("picture", {"p", "q"})
    assert port.get_node().layout == ov.Layout("NCHW")


def test_a_file_is_mapped(tmp_path: Path) -> None:
    model = convolutional()
    compiled = ov.Core().compile_model(model, "CPU", CONFIG)
    path = tmp_path / "stored"
    path.write_bytes(compiled.export_model().getvalue())
    imported = ov.Core().import_model(path, "CPU", CONFIG)
    assert str(path) in Path("/proc/self/maps").read_text()
    assert results(imported, feeds(model)) == results(compiled, feeds(model))


def dynamic() -> onnx.ModelProto:
    n = Net()
    n.output(n("NonZero", n.input(3, 3)))
    return n.model()


def test_models_that_are_not_stored_say_so_and_compile(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "cpuruntime")
    compiled = compile_in(cache, dynamic().SerializeToString())
    assert compiled(np.eye(3, dtype=np.float32))[0].shape == (2, 3)
    assert "cannot be stored: shapes in it depend on its inputs" in caplog.text
    with pytest.raises(UnsupportedError, match="depend on its inputs"):
        compiled.export_model()
    with pytest.raises(UnsupportedError, match="REFERENCE cannot be stored"):
        ov.Core().compile_model(convolutional(), "REFERENCE").export_model()
    target = compile_in(cache, convolutional(), LATENCY_TARGET_MS=1000, CACHE_DIR=str(cache))
    assert not is_loaded(target)
    assert "CACHE_DIR has no effect: models with LATENCY_TARGET_MS are not stored" in caplog.text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", "truncated or damaged|is no model"),
        (b"x" * 10_000, "is no model"),
        (convolutional().SerializeToString(), "is no model"),
        ("/nowhere/at/all", "There is no compiled model"),
        ("/", "cannot be imported"),
    ],
)
def test_what_is_no_compiled_model_is_refused(source: Any, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ov.Core().import_model(source, "CPU")


def test_sources_of_other_types_are_refused() -> None:
    with pytest.raises(WrongTypeError, match="a compiled model is a path"):
        ov.Core().import_model(7, "CPU")


def test_a_model_for_more_threads_is_refused() -> None:
    content = ov.Core().compile_model(convolutional(), "CPU", CONFIG).export_model()
    if (os.cpu_count() or 1) < 2:
        pytest.skip("needs two processors")
    with pytest.raises(ModelError, match="streams of 1 thread at most"):
        ov.Core().import_model(content, "CPU", {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 2})


def changed(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """A file with other facts, and right checksums."""
    file = SectionFile(memoryview(content))
    change(file.facts)
    return b"".join(written(file.facts, {name: [file[name]] for name in ("interface", *SECTIONS)}))


SECTIONS = "words", "relocations", "steps", "weights"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda facts: facts.update(format=0, made_by="0.0.1"), "made for CPU by cpuruntime 0.0.1"),
        (lambda facts: facts.update(device="REFERENCE"), "made for REFERENCE"),
        (lambda facts: facts["own"].update(sources="other"), "by other sources"),
        (lambda facts: facts["own"].update(environment="other", isa="avx512"), "for avx512"),
        (lambda facts: facts["own"]["program"]["kernels"].append(["cpuruntime_gone", None]), "is not compiled"),
        (lambda facts: facts["own"]["program"].update(weights=[1]), "do not fit together"),
        (lambda facts: facts["own"].pop("program"), "program"),
    ],
)
def test_files_of_others_are_refused(change: Callable[[dict[str, Any]], None], message: str) -> None:
    content = ov.Core().compile_model(convolutional(), "CPU", CONFIG).export_model().getvalue()
    with pytest.raises(ModelError, match=message):
        ov.Core().import_model(changed(content, change), "CPU", CONFIG)


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


SCRIPT = """
import sys
import numpy as np
import cpuruntime as ov
config = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "CACHE_DIR": sys.argv[2]}
compiled = ov.Core().compile_model(sys.argv[1], "CPU", config)
print(compiled.get_property("LOADED_FROM_CACHE"), compiled(np.ones((1, 3, 20, 20), np.float32))[0].tobytes().hex())
heavy = "onnx frontend numba passes program.plan.planner program.lowerings operators.shape_inference".split()
print([name for name in heavy if name in sys.modules or f"cpuruntime.{name}" in sys.modules])
"""


def test_a_process_that_loads_a_model_imports_no_compiler(file: Path, cache: Path) -> None:
    expected = compile_in(cache, file)(np.ones((1, 3, 20, 20), np.float32))[0].tobytes().hex()
    command = [sys.executable, "-c", SCRIPT, str(file), str(cache)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [f"True {expected}", "[]"]


def test_processes_that_fill_one_folder_store_one_model(file: Path, cache: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(file), str(cache)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = [process.communicate()[0].split() for process in processes]
    assert len({line[1] for line in found}) == 1
    assert len(list(cache.glob("*.model"))) <= 1
    assert not list(cache.glob(".*")), "no temporary file is left"


def test_a_cache_moves_with_its_model(file: Path, cache: Path, tmp_path: Path) -> None:
    compile_in(cache, file)
    shutil.copytree(cache, tmp_path / "copy")
    shutil.copy(file, tmp_path / "moved.onnx")
    assert is_loaded(compile_in(tmp_path / "copy", tmp_path / "moved.onnx"))


COLD = """
import sys
import cpuruntime as ov
config = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "CACHE_DIR": sys.argv[2], "COMPILE_MODE": sys.argv[3]}
compiled = ov.Core().compile_model(sys.argv[1], "CPU", config)
print([compiled.get_property(name) for name in ("LOADED_FROM_CACHE", "OPTIMIZED")])
"""


def test_without_its_kernels_a_stored_model_starts_as_fast_as_any(file: Path, cache: Path, tmp_path: Path) -> None:
    compile_in(cache, file)
    found = []
    for mode in ("FAST_START", "OPTIMIZED"):
        command = [sys.executable, "-c", COLD, str(file), str(cache), mode]
        variables = {**os.environ, "CPURUNTIME_CACHE_DIR": str(tmp_path / mode)}
        found.append(subprocess.run(command, capture_output=True, text=True, check=True, env=variables))
    assert [result.stdout.strip() for result in found] == ["[False, False]", "[True, True]"]
    assert "is not compiled; others can compute until it is" in found[0].stderr


WAITING = """
import sys
import numpy as np
import cpuruntime as ov
config = {"NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": 1, "CACHE_DIR": sys.argv[2]}
compiled = ov.Core().compile_model(sys.argv[1], "CPU", config)
compiled(np.ones((1, 3, 20, 20), np.float32))
print(compiled.get_property("LOADED_FROM_CACHE"), flush=True)
input()
"""


def pages_of(process: subprocess.Popen[str], path: Path) -> dict[str, int]:
    """KiB of a process's memory that is mapped from a file, by kind."""
    found: dict[str, int] = {}
    inside = False
    for line in Path(f"/proc/{process.pid}/smaps").read_text().splitlines():
        name, _, value = line.partition(":")
        if "-" in name:
            inside = line.endswith(str(path))
        elif inside and value.endswith("kB"):
            found[name] = found.get(name, 0) + int(value.split()[0])
    return found


def test_processes_share_the_pages_of_weights(file: Path, cache: Path) -> None:
    """Each process of several counts its part of a page in Pss."""
    compile_in(cache, file)
    (stored,) = cache.glob("*.model")
    command = [sys.executable, "-c", WAITING, str(file), str(cache)]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "True\n"
        for pages in [pages_of(process, stored) for process in processes]:
            assert pages["Rss"] >= stored.stat().st_size // 1024 * 0.9
            assert pages["Pss"] <= pages["Rss"] / 2 + 4
            assert pages["Private_Dirty"] == 0
    finally:
        for process in processes:
            process.communicate("\n")


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


def test_no_mutation_of_a_file_is_used() -> None:
    """10,000 by `python tests/support/stored_mutants.py 10000`."""
    assert stored_mutants.check(convolutional(), 300) == 300
