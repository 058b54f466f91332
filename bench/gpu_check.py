"""Checks a GPU, and measures it: for the day on which one is at hand. Runs in under 10 minutes.

    python bench/gpu_check.py
    python bench/gpu_check.py --device GPU.1 -m light:resnet50 bench:bert_base --seconds 5
    python bench/gpu_check.py --results -m light:squeezenet bench:mobilenet_v2 bench:resnet18 --inputs 256

First every template of kernels is compared with ONNX Runtime's results. Then those of models in f32, and with values
stored in f16, are compared with the CPU's on random inputs. Latency, and throughput with streams and batches, are
compared with ONNX Runtime's CUDA provider where that is installed. Then follow the speed of a large product and of
memory, with their share of --peak and --bandwidth, what a launch and a copy cost, and what GPU_QUEUE_THROTTLE does to
latency and to the host's processor. With --results only results of models are compared. Inputs of which another result
is the largest are listed with how far apart the CPU's two are. Exits with 1 where a result is wrong. On a driver that
runs on the processor the results count and the times do not.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx.parser

import cpuruntime as ov
from cpuruntime.cli.parser import Parser, positive, positive_seconds
from cpuruntime.gpu_runtime import drivers
from cpuruntime.gpu_runtime.end import End
from cpuruntime.gpu_runtime.interface import Call
from peer.engines import installed
from peer.models import ModelFile, expand, prepare

MODELS = ("light:squeezenet", "light:resnet50", "bench:mobilenet_v2", "bench:vit_tiny", "bench:bert_base")
LIMITS = {"f32": 1e-4, "f16": 5e-3}
"""Of the largest result: how far others may be from it."""
TEMPLATES = Path(__file__).parents[1] / "tests" / "evaluation" / "gpu_templates.py"
KERNEL_TIMES = {"INFERENCE_PRECISION_HINT": "f32", "PERF_COUNT": True}
LAUNCHES = 60
THROTTLES = ("LOW", "MEDIUM", "HIGH")
CUDA = "CUDAExecutionProvider"


def parser() -> Parser:
    """The command line."""
    parser = Parser(prog="gpu_check.py", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="GPU", help="the device (default: GPU)")
    parser.add_argument("-m", "--models", nargs="+", default=MODELS, metavar="MODEL", help="as for bench/peers.py")
    parser.add_argument("--inputs", type=positive, default=16, metavar="N", help="how many are compared (default: 16)")
    parser.add_argument("--results", action="store_true", help="compare results of models, and measure nothing")
    parser.add_argument("--peak", type=float, metavar="TFLOPS", help="of the device in f32, to show the share reached")
    parser.add_argument("--bandwidth", type=float, metavar="GBS", help="GB/s of the device's memory, likewise")
    parser.add_argument("--seconds", type=positive_seconds, default=2.0, help="of each measurement (default: 2)")
    return parser


def main(args: Sequence[str] | None = None) -> int:
    """Runs all checks; 1 where a result is wrong."""
    options = parser().parse_args(args)
    specifications = expand(options.models)
    core = ov.Core()
    reason = core.unavailable_devices.get(options.device.partition(".")[0])
    if reason is not None:
        print(f"Device {options.device} is not available: {reason}")
        return 1
    print(f"{options.device}: {core.get_property(options.device, 'FULL_DEVICE_NAME')}")
    wrong = 0 if options.results else templates(core, options.device)
    with tempfile.TemporaryDirectory() as folder:
        for specification in specifications:
            file, seconds = prepare(specification, Path(folder)), 0.0 if options.results else options.seconds
            wrong += study(core, options.device, file, options.inputs, seconds)
        if not options.results:
            roof(core, options.device, options.peak, options.bandwidth, options.seconds)
            costs(core, options.device, prepare("bench:mlp", Path(folder)), options.seconds)
    print("all results are right" if not wrong else f"{wrong} results are WRONG")
    return int(wrong > 0)


def templates(core: ov.Core, device: str) -> int:
    """Runs every template of kernels in both tunings: the number of runs with a wrong result."""
    import pyopencl

    version, wrong = core.get_property(device, "GPU_DRIVER_VERSION"), 0
    platform = next(one.name for one in pyopencl.get_platforms() if version.startswith(one.name))

    def run(tuning: str, precision: str) -> subprocess.CompletedProcess[str]:
        chosen = ["--platform", platform, "--tuning", tuning, "--precision", precision]
        return subprocess.run([sys.executable, TEMPLATES, "run", *chosen], capture_output=True, text=True, check=False)

    runs = ("gpu", "f32"), ("gpu", "f16"), ("gpu_last", "f32"), ("cpu", "f32")
    with ThreadPoolExecutor(2) as pool:  # most of the time kernels are built, on one processor
        for (tuning, precision), done in zip(runs, pool.map(run, *zip(*runs))):
            found = "right" if done.returncode == 0 else f"WRONG\n{done.stdout}{done.stderr[-2000:]}"
            print(f"templates, tuning {tuning}, {precision}: {found}", flush=True)
            wrong += done.returncode != 0
    return wrong


def roof(core: ov.Core, device: str, peak: float | None, bandwidth: float | None, seconds: float) -> None:
    """Prints the speed of a large product and of memory, by the times of the kernels alone."""
    size, count = 2048, 2**24
    square, line = f"float[{size},{size}]", f"float[{count}]"
    for name, text, amount, unit, most in (
        ("product", f"({square} x, {square} w) => ({square} y) {{ y = MatMul(x, w) }}", 2 * size**3, "TFLOP/s", peak),
        ("sum", f"({line} x, {line} w) => ({line} y) {{ y = Add(x, w) }}", 12 * count, "GB/s", bandwidth),
    ):
        model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 17]> {name} {text}')
        with core.compile_model(model, device, KERNEL_TIMES) as compiled:
            request = compiled.create_infer_request()
            repeated(request.infer, seconds / 2)
            taken = kernel_seconds(request)
        speed = amount / taken / (1e12 if unit == "TFLOP/s" else 1e9)
        share = f", {speed / most:.0%} of the roof" if most else ""
        print(f"{name} of {size if name == 'product' else count} in f32: {speed:.3g} {unit}{share}")


def kernel_seconds(request: ov.InferRequest) -> float:
    """What the kernels of the last inference took."""
    return sum(row.real_time.total_seconds() for row in request.profiling_info)


def inputs_of(file: ModelFile, seed: int) -> list[np.ndarray]:
    """Random inputs like those of the file: floats are drawn anew, values of other types are in another order."""
    rng = np.random.default_rng(seed)
    with np.load(file.inputs) as arrays:
        found = list(arrays.values())
    for index, array in enumerate(found):
        if array.dtype.kind == "f":
            found[index] = rng.standard_normal(array.shape).astype(array.dtype)
        else:
            found[index] = rng.permutation(array.ravel()).reshape(array.shape)
    return found


def study(core: ov.Core, device: str, file: ModelFile, count: int, seconds: float) -> int:
    """Compares results with the CPU's, and measures for `seconds` if not 0: in how many precisions they are wrong."""
    inputs, wrong = [inputs_of(file, seed) for seed in range(count)], 0
    with core.compile_model(file.path, "CPU") as exact:
        wanted = [list(exact(one).values()) for one in inputs]
    for precision in LIMITS:
        shared = {"INFERENCE_PRECISION_HINT": precision}
        begin = time.perf_counter()
        with core.compile_model(file.path, device, {**shared, "PERFORMANCE_HINT": "LATENCY"}) as compiled:
            print(f"{file.name:20} {precision}: compiled in {time.perf_counter() - begin:.1f} s, ", end="")
            wrong += not check(compiled, inputs, wanted, LIMITS[precision])
            request = compiled.create_infer_request()
            request.infer(inputs[0])
            latency = repeated(partial(request.infer, inputs[0]), seconds)
        if seconds:
            with core.compile_model(file.path, device, {**shared, "PERFORMANCE_HINT": "THROUGHPUT"}) as compiled:
                rate = throughput(compiled, inputs[0], seconds)
            print(f"{file.name:20} {precision}: {latency * 1e3:.2f} ms, {rate:.1f} inferences/s")
    if seconds:
        measure_cuda(file, inputs[0], seconds)
    return wrong


def check(
    compiled: ov.CompiledModel, inputs: list[list[np.ndarray]], wanted: list[list[np.ndarray]], limit: float
) -> bool:
    """Whether results are as near to those wanted as the limit says; prints how many have the same largest one."""
    worst, others = 0.0, []
    for seed, (one, results) in enumerate(zip(inputs, wanted)):
        for index, (found, exact) in enumerate(zip(compiled(one).values(), results)):
            scale = float(np.abs(exact).max(initial=1e-30))
            worst = max(worst, float(np.abs(found - exact).max(initial=0)) / scale)
            if index == 0 and exact.size and found.argmax() != exact.argmax():
                apart = float(exact.max()) - float(exact.reshape(-1)[found.argmax()])
                others.append(f"input {seed}, {apart / scale:.1e} apart")
    print(
        f"{'right' if worst <= limit else 'WRONG'}, {worst:.1e} of the largest (limit {limit:.0e}), the same largest "
        f"one in {len(inputs) - len(others)} of {len(inputs)}{''.join(f'; near tie: {other}' for other in others)}",
        flush=True,
    )
    return worst <= limit


def measure_cuda(file: ModelFile, inputs: list[np.ndarray], seconds: float) -> None:
    """Prints the latency of ONNX Runtime's CUDA provider, where that is installed."""
    if not installed("onnxruntime"):
        return
    import onnxruntime

    if CUDA not in onnxruntime.get_available_providers():
        print(f"{file.name:20} ONNX Runtime has no {CUDA} here")
        return
    session = onnxruntime.InferenceSession(file.path, providers=[CUDA])
    feed = dict(zip(file.names, inputs))
    session.run(None, feed)
    taken = repeated(lambda: session.run(None, feed), seconds)
    print(f"{file.name:20} ONNX Runtime, {CUDA}, f32: {taken * 1e3:.2f} ms, copies included")


def repeated(call: Callable[[], object], seconds: float) -> float:
    """The median of the seconds that a call takes, repeated for so many."""
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def throughput(compiled: ov.CompiledModel, inputs: list[np.ndarray], seconds: float) -> float:
    """Inferences a second with as many in flight as the model asks for."""
    queue = ov.AsyncInferQueue(compiled)
    for _ in range(len(queue)):
        queue.start_async(inputs)
    queue.wait_all()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() < begin + seconds:
        queue.start_async(inputs, share_inputs=True)
        count += 1
    queue.wait_all()
    return count / (time.perf_counter() - begin)


def costs(core: ov.Core, device: str, file: ModelFile, seconds: float) -> None:
    """Prints what an inference of a small model, a copy, and each way to wait cost."""
    inputs = inputs_of(file, 0)
    for throttle in THROTTLES:
        with core.compile_model(file.path, device, {"GPU_QUEUE_THROTTLE": throttle}) as compiled:
            request = compiled.create_infer_request()
            request.infer(inputs)
            steps = len(compiled.explain().rows)
            begin, host = time.perf_counter(), time.process_time()
            latency = repeated(request.infer, seconds)
            busy = (time.process_time() - host) / (time.perf_counter() - begin)
            print(
                f"throttle {throttle:6}: {file.name} of {steps} steps in {latency * 1e6:.0f} us, {busy:.0%} of a "
                "processor busy (with kernels, where the driver runs on it)"
            )
    print(f"program of {LAUNCHES} kernels: {launches(device):.1f} us a kernel to submit")
    context = core.get_default_context(device)
    for mebibytes in (1, 64):
        tensor = context.create_tensor(ov.Type.u8, [mebibytes * 2**20])
        data = ov.Tensor(np.zeros(mebibytes * 2**20, np.uint8), shared_memory=True)
        for name, copy in (("to", partial(tensor.copy_from, data)), ("from", partial(tensor.copy_to, data))):
            taken = repeated(copy, seconds / 4)
            rate = mebibytes / 1024 / taken
            print(f"copy of {mebibytes} MiB {name} the device: {taken * 1e6:.0f} us, {rate:.1f} GiB/s")


def launches(device: str) -> float:
    """The fewest microseconds that it takes to submit a launch, in programs of LAUNCHES that do next to nothing.

    Their kernel has as many arguments as that of a product.
    """
    runtime = drivers.devices()[int(device.partition(".")[2] or 0)]
    numbers = range(24)
    head = ", ".join(["__global float *x", *(f"int n{number}" for number in numbers)])
    module = runtime.build(f"__kernel void touch({head}) {{ x[get_global_id(0)] += n1; }}")
    memory, queue, end, times = runtime.allocate(4096), runtime.queue(), End(), []
    recorded = queue.record([Call(module, "touch", (memory, *numbers), (64,), (64,))] * LAUNCHES)
    prepared = queue.prepare(recorded)
    for _ in range(200):
        begin = time.perf_counter()
        queue.submit(prepared, end)
        times.append(time.perf_counter() - begin)
        end.wait()
    return min(times) / LAUNCHES * 1e6


if __name__ == "__main__":
    sys.exit(main())
