"""Programs hold no addresses: linked at any place, and in another process from a file, they compute the same bits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.judge import Net, random_inputs

import cpuruntime as ov
from cpuruntime.compiler import build
from cpuruntime.errors import ModelError, UnsupportedError
from cpuruntime.host.memory import allocate
from cpuruntime.program import file as program_file
from cpuruntime.program.common_sections import Parts, Pool, Sections
from cpuruntime.program.image import Image
from cpuruntime.program.link import Linked
from cpuruntime.program.plan.storage import Place
from cpuruntime.program.program import Program
from cpuruntime.store import SectionFile, written
from cpuruntime.streams.job import Job
from cpuruntime.testing.probes import device_of

PREFIX = 64
CHANNELS, HEADS = 24, 3
CONFIG = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}


def convolutional() -> onnx.ModelProto:
    """Direct, depthwise and Winograd convolutions, whose kernels call others by address; a product; a fault."""
    n = Net()
    x = n("Relu", n.conv(n.input(1, 3, 20, 20), 3, 32, strides=[2, 2], pads=[1] * 4))
    x = n("Relu", n.conv(x, 32, 32, group=32, pads=[1] * 4))
    x = n("Add", x, n("Relu", n.conv(x, 32, 32, pads=[1] * 4)))
    pooled = n("Flatten", n("GlobalAveragePool", x))
    n.output(
        n("Gemm", pooled, n.weights(32, 10), n.weights(10)), n("Gather", pooled, n.input(2, dtype=np.int64), axis=1)
    )
    return n.model()


def transformer() -> onnx.ModelProto:
    n = Net()
    x = n.input(2, 19, CHANNELS)
    query, key, value = (
        n(
            "Transpose",
            n("Reshape", n("MatMul", x, n.weights(CHANNELS, CHANNELS)), n.integers(0, 0, HEADS, 8)),
            perm=order,
        )
        for order in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
    )
    scores = n("Softmax", n("Div", n("MatMul", query, key), n.constant(8**0.5)), axis=-1)
    mixed = n("Reshape", n("Transpose", n("MatMul", scores, value), perm=[0, 2, 1, 3]), n.integers(0, 0, CHANNELS))
    x = n("LayerNormalization", n("Add", x, mixed), n.positive(CHANNELS), n.weights(CHANNELS))
    n.output(n("Add", n("MatMul", n("Tanh", x), n.weights(CHANNELS, CHANNELS)), x))
    return n.model()


MODELS = {"convolutional": convolutional, "transformer": transformer}


def save(program: Program, path: Path) -> None:
    pool, sections = Pool({}), Sections()
    facts = program_file.add(program, "only", pool, sections)
    pieces = written({"parts": pool.facts(), "program": facts}, sections | pool.sections())
    path.write_bytes(b"".join(pieces))


def load(path: Path) -> Image:
    with path.open("rb") as opened:
        file = SectionFile.mapped(opened.fileno())
    file.check()()
    parts = Parts(file.facts["parts"], file)
    image = program_file.load(file.facts["program"], "only", parts, file).image
    assert isinstance(image, Image)
    return image


def planned(model: onnx.ModelProto) -> tuple[ov.CompiledModel, Program]:
    compiled = ov.Core().compile_model(model, "CPU", CONFIG)
    return compiled, device_of(compiled).programs.cached()[0]


def feeds(model: onnx.ModelProto) -> list[np.ndarray]:
    found = [np.ascontiguousarray(array) for array in random_inputs(model).values()]
    return [np.array([3, 17]) if array.dtype == np.int64 else array for array in found]


def run(linked: Linked, inputs: list[np.ndarray]) -> list[bytes]:
    """The outputs' bytes of one inference on this thread."""
    outputs = [np.empty(shape, dtype) for shape, dtype in linked.image.outputs]
    for place, arrays in ((Place.INPUT, inputs), (Place.OUTPUT, outputs)):
        for index, array in enumerate(arrays):
            linked.bind(place, index, array.ctypes.data)
    for (kernel, _), block in zip(Job(linked.table).program.tolist(), linked.blocks):
        build.PROTOTYPE(kernel)(block, 0, 1)
    return [output.tobytes() for output in outputs]


def moved(image: Image) -> Image:
    """The image with weights elsewhere; what was there before is overwritten."""
    weights = []
    for before in image.weights:
        memory = allocate(before.size)
        memory[:] = before
        weights.append(memory)
        before[:] = 0xFF
    return replace(image, weights=tuple(weights))


@pytest.mark.parametrize("name", MODELS)
def test_linked_twice_it_computes_the_same(name: str) -> None:
    model = MODELS[name]()
    compiled, program = planned(model)
    inputs = feeds(model)
    results = compiled(inputs)
    expected = [results[index].tobytes() for index in range(len(compiled.outputs))]
    first = Linked(program.image)
    assert run(first, inputs) == expected
    second = Linked(moved(program.image))
    first.arena[:] = 0xFF
    first.words[:] = -1
    assert run(second, inputs) == expected
    assert not second.faults.any()


@pytest.mark.parametrize("name", MODELS)
def test_an_image_holds_no_addresses(name: str) -> None:
    """Planned again, with all memory elsewhere, it is the same; and every address has its row."""
    (_, first), (_, second) = planned(MODELS[name]()), planned(MODELS[name]())
    one, other = first.image, second.image
    assert one.words.tobytes() == other.words.tobytes()
    assert one.relocations.tobytes() == other.relocations.tobytes()
    assert one.kernels == other.kernels
    assert not one.words[one.relocations["where"]].any()
    assert len(set(one.relocations["where"].tolist())) == len(one.relocations)
    kinds = set(one.relocations["kind"].tolist())
    assert kinds >= {Place.KERNEL, Place.FIXED, Place.ARENA, Place.IMAGE, Place.INPUT, Place.OUTPUT}
    assert (Place.FAULT in kinds) == (name == "convolutional")
    calls = (one.relocations["kind"] == Place.KERNEL).sum() - one.steps
    assert calls == (3 if name == "convolutional" else 0), "the phases of Winograd's method"


def test_a_fault_is_written_beside_its_own_program() -> None:
    model = convolutional()
    _, program = planned(model)
    first, second = Linked(program.image), Linked(program.image)
    image, _ = feeds(model)
    run(second, [image, np.array([3, 99])])
    assert second.faults.any()
    assert not first.faults.any()
    assert "n" in program.image.faults[0]


SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from cpuruntime.compiler import build
from cpuruntime.program.link import Linked
sys.path[:0] = sys.argv[2:]
from models.test_link import load, run
folder = Path(sys.argv[1])
linked = Linked(load(folder / "program"))
inputs = [np.load(folder / f"{index}.npy") for index in range(len(linked.image.inputs))]
for index, output in enumerate(run(linked, inputs)):
    (folder / f"{index}.out").write_bytes(output)
assert build.loaded_kernels() == (0, len(linked.image.kernels))
assert "numba" not in sys.modules
"""


@pytest.mark.parametrize("name", MODELS)
def test_a_fresh_process_computes_the_same_from_a_file(name: str, tmp_path: Path) -> None:
    model = MODELS[name]()
    compiled, program = planned(model)
    inputs = feeds(model)
    save(program, tmp_path / "program")
    for index, array in enumerate(inputs):
        np.save(tmp_path / f"{index}.npy", array)
    tests = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path), str(tests), str(tests.parent)], check=True)
    results = compiled(inputs)
    for index in range(len(compiled.outputs)):
        assert (tmp_path / f"{index}.out").read_bytes() == results[index].tobytes()


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "program"
    save(planned(transformer())[1], path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", "truncated or damaged"),
        (lambda content: content[: PREFIX - 1], "truncated or damaged"),
        (lambda content: b"PK" + content[2:], "is no model"),
        (lambda content: content[:PREFIX], "truncated or damaged"),
        (lambda content: content[: len(content) // 2], "truncated or damaged"),
        (lambda content: content[:-1], "truncated or damaged"),
        (lambda content: content + b"\0", "truncated or damaged"),
        (lambda content: content[:-100] + b"x" + content[-99:], "section 'weights' is damaged"),
        (lambda content: content[:PREFIX] + b"x" + content[PREFIX + 1 :], "header is damaged"),
    ],
)
def test_damaged_and_foreign_files_are_refused(
    saved: bytes, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    path = tmp_path / "program"
    path.write_bytes(saved)
    load(path)
    path.write_bytes(damage(saved))
    with pytest.raises(ValueError, match=message):
        load(path)


WRONG = ("where", 10**9), ("where", -1), ("kind", 7), ("symbol", 99), ("offset", 2**40)


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_relocations_out_of_range_are_refused(tmp_path: Path, field: str, value: int) -> None:
    _, program = planned(transformer())
    relocations = program.image.relocations.copy()
    relocations[field][3] = value
    program.image = replace(program.image, relocations=relocations)
    save(program, tmp_path / "program")
    with pytest.raises(ValueError, match=r"relocation in it is out of range|do not fit together"):
        load(tmp_path / "program")


def test_a_kernel_that_is_not_in_the_cache_is_named(saved: bytes, tmp_path: Path) -> None:
    (tmp_path / "program").write_bytes(saved)
    image = load(tmp_path / "program")
    with pytest.raises(ModelError, match="kernel cpuruntime_gone of the program is not in the cache"):
        Linked(replace(image, kernels=("cpuruntime_gone", *image.kernels[1:])))


def test_a_program_with_a_fallback_is_not_saved(tmp_path: Path) -> None:
    n = Net()
    n.output(n("Bernoulli", n.input(3, 3)))
    _, program = planned(n.model())
    with pytest.raises(UnsupportedError, match=r"Bernoulli .* has no kernel"):
        save(program, tmp_path / "program")
    assert not list(tmp_path.iterdir())
