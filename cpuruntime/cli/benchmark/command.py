"""The eleven steps of `cpuruntime benchmark`, as OpenVINO's benchmark_app takes them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import cpuruntime as ov
from cpuruntime.cli.benchmark.configuration import Config, configured, dump_config
from cpuruntime.cli.benchmark.disturbance import Disturbance
from cpuruntime.cli.benchmark.feed import Feed
from cpuruntime.cli.benchmark.files import Source, assigned
from cpuruntime.cli.benchmark.filling import filled
from cpuruntime.cli.benchmark.measure import Limits, Measurement, measure_async, measure_open, measure_sync
from cpuruntime.cli.benchmark.options import DEFAULT_SECONDS, parser
from cpuruntime.cli.benchmark.page import write_page
from cpuruntime.cli.benchmark.ports import set_layouts
from cpuruntime.cli.benchmark.preprocessing import preprocess
from cpuruntime.cli.benchmark.profiles import executed_graph, mean_profile, ordered, profile_table
from cpuruntime.cli.benchmark.report import Progress, Report, fallback_summary, peak_memory_kilobytes, stopwatch
from cpuruntime.cli.benchmark.statistics import Statistics
from cpuruntime.cli.inputs import SEED
from cpuruntime.cli.model_options import LIGHT, reshape, source_of
from cpuruntime.errors import InvalidArgumentError, printable

__all__ = ["parser", "run"]

COMPILED = ".blob"
"""How files of compiled models end."""
_CHANGES = {
    "-shape": "shape", "-b": "batch_size", "-layout": "layout", "-ip": "input_precision", "-op": "output_precision",
    "-iop": "input_output_precision", "--mean_values": "mean_values", "--scale_values": "scale_values",
}  # fmt: skip
"""Options that change the model."""


def run(options: argparse.Namespace) -> None:
    """Carries out the steps. Raises cpuruntime.Error or OSError when one fails; reports keep what was measured."""
    with Report(sys.stdout).log_included() as report:
        benchmark = _Benchmark(options, report)
        try:
            benchmark.steps()
        except BaseException as error:
            benchmark.stopped(error)
            raise


class _Benchmark:
    """One benchmark, with what its steps have found so far."""

    def __init__(self, options: argparse.Namespace, report: Report) -> None:
        self.options, self.report = options, report
        self.statistics = Statistics(None, Path(), False, report.info)
        self.api = options.api_type or ("sync" if options.perf_hint == "latency" and not options.load else "async")
        self.core = ov.Core()
        self.model: ov.Model | None = None
        self.requests: list[ov.InferRequest] = []
        self.measurement = Measurement()
        self.groups: list[str] = []
        self.sources: dict[str, list[Source]] = {}

    def steps(self) -> None:
        """All steps."""
        self._check_options()
        if (path := self.options.trace) is None:
            self._measured_steps()
            return
        with self.core.trace(path):
            self._measured_steps()
        self.report.info(f"The timeline is stored to {path}; https://ui.perfetto.dev shows it.")

    def _measured_steps(self) -> None:
        """All but the first."""
        options, report = self.options, self.report
        self._load()
        report.step(3)
        config = configured(report, self.core, options, self.api)
        if not set(":(") & set(options.target_device):
            self.core.set_property(options.target_device, config)  # a wrong value is an error before the model is read
        if self._is_file():
            for number in (4, 5, 6):
                report.step(number, "skipped")
        else:
            self.model = self._read()
            self._reshape(self.model)
            self._configure_inputs(self.model)
        compiled = self._compile(config)
        if options.number_iterations == 0:
            report.info("Model compiled successfully. Skipping inference due to -niter 0.")
            for number in (8, 9, 10):
                report.step(number, "skipped")
            report.step(11)
            self._write_settings(compiled, config)
            self.statistics.write()
            return
        self._describe(compiled)
        feed = self._prepare(compiled)
        self._measure(compiled, feed)
        self._conclude(compiled, config)

    def stopped(self, error: BaseException) -> None:
        """After an error or Ctrl-C: write, and print, what was measured until then."""
        text = "Interrupted." if isinstance(error, KeyboardInterrupt) else str(error)
        self.statistics.results({"error": text})
        try:
            if self.measurement.iterations and "throughput" not in self.statistics.sections["execution_results"]:
                self._note_measured()
                if not isinstance(error, BrokenPipeError):
                    self.report.warning("Stopped early; these are the figures of what was measured.")
                    self.report.results(self.measurement, self.options.latency_percentile)
            self.statistics.write()
            self._write_page(None)
        except OSError:
            pass  # the error that stopped the benchmark says more

    def _is_file(self) -> bool:
        """Whether the device gets the file itself, and steps 4 to 6 are left out."""
        return self.options.load_from_file or self.options.path_to_model.endswith(COMPILED)

    def _check_options(self) -> None:
        options, report = self.options, self.report
        report.step(1)
        report.info("Parsing input parameters")
        self.statistics = Statistics(options.report_type, options.report_folder, options.json_stats, report.info)
        self.statistics.options(options.arguments)
        for name in ("-dump_config", "-exec_graph_path", "--report"):
            path = getattr(options, name.lstrip("-"))
            if path is not None and (not path.absolute().parent.is_dir() or path.is_dir()):
                raise InvalidArgumentError(f"{name} {path}: it must be a file in a folder that there is.")
        if (path := options.exec_graph_path) is not None and path.suffix == ".xml":
            raise InvalidArgumentError(f"-exec_graph_path {path}: the graph is written as ONNX; end it in .onnx.")
        if options.load and (options.api_type == "sync" or options.maximum_inference_rate):
            raise InvalidArgumentError("--load starts requests by itself; leave out -api sync and -max_irate.")
        changes = [name for name, option in _CHANGES.items() if getattr(options, option)]
        if self._is_file() and changes:
            reason = "-lfile compiles the file as it is" if options.load_from_file else f"a {COMPILED} is compiled"
            raise InvalidArgumentError(f"{reason}; leave out {', '.join(changes)}.")
        if options.path_to_cldnn_config is not None:
            report.warning("-c has no effect: it is about OpenVINO's GPU.")

    def _load(self) -> None:
        report, device = self.report, self.options.target_device
        report.step(2)
        report.info("cpuruntime:")
        report.info(f"{'Build ':.<39} {ov.get_version()}")
        report.info("")
        for library in filter(None, (self.options.extensions or "").split(",")):
            self.core.add_extension(library)
        if self.options.cache_dir is not None:
            self.core.set_property({"CACHE_DIR": str(self.options.cache_dir)})
        report.info("Device info:")
        for name, version in self.core.get_versions(device).items():
            report.info(name)
            report.info(f"{'Name ':.<39} {self.core.get_property(name, 'FULL_DEVICE_NAME')}")
            report.info(f"{'Build ':.<39} {version.build_number}")
        report.info("")

    def _read(self) -> ov.Model:
        report, path = self.report, self.options.path_to_model
        report.step(4)
        report.info("Loading model files")
        if path.startswith(LIGHT):
            report.info(f"Filling the weights of {path} with random values (seed {SEED})")
        source = source_of(path)
        start = stopwatch()
        model = self.core.read_model(source)
        self._took("Read model", "read model time (ms)", start)
        report.info("Original model I/O parameters:")
        report.ports("Model inputs", model.inputs)
        report.ports("Model outputs", model.outputs)
        return model

    def _took(self, what: str, name: str, start: float) -> None:
        milliseconds = stopwatch() - start
        self.report.info(f"{what} took {milliseconds:.2f} ms")
        self.statistics.results({name: milliseconds})

    def _reshape(self, model: ov.Model) -> None:
        options, report = self.options, self.report
        report.step(5)
        set_layouts(model, options.layout)
        batch = options.batch_size
        if batch is not None and batch.is_static and options.data_shape:
            report.warning("Batch size will be ignored. Provide the batch in -data_shape.")
            options.batch_size = None
        elif batch is not None and options.shape:
            report.warning(f"The batch of -b {batch} replaces that of -shape.")
        if shapes := reshape(options, model):
            named = ", ".join(f"{printable(name)}: {shape}" for name, shape in shapes.items())
            report.info(f"Reshaping model: {named}")

    def _configure_inputs(self, model: ov.Model) -> None:
        options, report = self.options, self.report
        report.step(6)
        self._assign_files(model.inputs)
        arrays = [name for name, sources in self.sources.items() if not all(one.is_image for one in sources)]
        preprocess(options, model, arrays)
        report.ports("Model inputs", model.inputs)
        report.ports("Model outputs", model.outputs)

    def _assign_files(self, ports: Sequence[ov.ConstOutput]) -> None:
        texts = [text for group in self.options.paths_to_input for text in group]
        self.sources = assigned(texts, [port.any_name for port in ports], self.report.warning)

    def _compile(self, config: Config) -> ov.CompiledModel:
        options, report = self.options, self.report
        device, path = options.target_device, options.path_to_model
        report.step(7)
        before, start = peak_memory_kilobytes(), stopwatch()
        is_import = path.endswith(COMPILED)
        if is_import:
            compiled = self.core.import_model(path, device, config)
        else:
            compiled = self.core.compile_model(self.model or source_of(path), device, config)
            compiled.wait_until_optimized()
        action = "Import" if is_import else "Compile"
        self._took(f"{action} model", f"{action.lower()} model time (ms)", start)
        after = peak_memory_kilobytes()
        report.info(f"Start of compilation memory usage: Peak {before} KB")
        report.info(f"End of compilation memory usage: Peak {after} KB")
        report.info(f"{action} model ram used {after - before} KB")
        threads = options.number_threads
        if threads and "INFERENCE_NUM_THREADS" in compiled.get_property("SUPPORTED_PROPERTIES"):
            used = compiled.get_property("INFERENCE_NUM_THREADS")
            if used < threads:
                report.warning(f"-nthreads {threads} is more than can be used here; there are {used} threads.")
        return compiled

    def _describe(self, compiled: ov.CompiledModel) -> None:
        report = self.report
        report.step(8)
        report.info("Model:")
        for name in compiled.get_property("SUPPORTED_PROPERTIES"):
            if name != "SUPPORTED_PROPERTIES":
                value = compiled.get_property(name)
                report.info(f"  {name}: {printable(value) if isinstance(value, str) else value}")
        explanation = compiled.explain()
        if explanation.decisions:
            report.info("Decisions:")
        for decision in explanation.decisions:
            report.info(f"  {decision}")
        if fallbacks := fallback_summary(explanation):
            report.warning(fallbacks)

    def _prepare(self, compiled: ov.CompiledModel) -> Feed:
        """The inputs, and whether the loop sets them."""
        options, report = self.options, self.report
        report.step(9)
        path = options.path_to_model
        model = None if path.endswith(COMPILED) else self.model or self.core.read_model(source_of(path))
        if self.model is None:
            self._assign_files(compiled.inputs)
        infos, feed = filled(report, options, compiled, model, self.sources)
        is_single = all(len(info.shapes) == 1 for info in infos)
        if not is_single and (self.api == "sync" or options.inference_only):
            option = "-inference_only" if options.inference_only else "-api sync"
            raise InvalidArgumentError(
                f"{option} needs one shape for each input, and there are {len(feed.batches)}; to infer one at a time "
                "give -api async -hint latency -nireq 1."
            )
        only = all(info.is_static for info in infos) if options.inference_only is None else options.inference_only
        feed.is_inside = not only
        self.groups = feed.group_names()
        if len(self.groups) > 1:
            report.info(f"Defined {len(self.groups)} tensor groups:")
            for group in self.groups:
                report.info(f"  {printable(group, 200)}")
        return feed

    def _measure(self, compiled: ov.CompiledModel, feed: Feed) -> None:
        """Infers once outside the measuring, and measures."""
        options, report = self.options, self.report
        load, rate = options.load, options.maximum_inference_rate
        is_bounded = options.number_iterations or (load and not load.is_endless)
        limits = Limits(options.time or (None if is_bounded else DEFAULT_SECONDS), options.number_iterations)
        queue = None
        if self.api == "sync":
            self.requests = [compiled.create_infer_request()]
            detail = "Start inference synchronously"
        else:
            queue = ov.AsyncInferQueue(compiled, options.number_infer_requests or 0)
            self.requests = list(queue)
            detail = f"Start inference asynchronously, {len(queue)} inference requests"
        detail += f", load {load}" if load else ""
        if queue is not None and load is None:
            limits = self._aligned(limits, feed)
        for request in self.requests:
            feed.prepare(request)
        self._note_setup(compiled, limits, feed)
        report.step(10, f"{detail}, limits: {limits}")
        mode = "full mode (inputs filling are" if feed.is_inside else "inference only mode (inputs filling are not"
        report.info(f"Benchmarking in {mode} included in measurement loop).")
        if options.no_warmup:
            report.info("Skipping warmup inference due to -no_warmup flag")
        else:
            self.requests[0].infer()
            report.info(f"First inference took {self.requests[0].latency:.2f} ms")
            self.statistics.results({"first inference time (ms)": self.requests[0].latency})
        self.statistics.begin()
        progress, disturbance = Progress(report, limits), Disturbance()
        try:
            if queue is None:
                measure_sync(self.requests[0], feed, limits, rate, progress, self.measurement)
            elif load is None:
                measure_async(queue, feed, limits, rate, progress, self.measurement)
            else:
                measure_open(queue, feed, load.arrivals(), limits, progress, self.measurement)
        finally:
            progress.close()
        if remark := disturbance.remark(self.measurement.seconds, self.measurement.cpu_seconds):
            report.info(remark)

    def _aligned(self, limits: Limits, feed: Feed) -> Limits:
        multiple = feed.turns(len(self.requests))
        aligned = limits.aligned(multiple)
        if aligned != limits:
            what, things = ("request number", "requests") if multiple == len(self.requests) else (
                "number of input shapes", "possible input shapes")  # fmt: skip
            self.report.warning(
                f"Number of iterations was aligned by {what} from {limits.iterations} to {aligned.iterations} "
                f"using number of {things} {multiple}"
            )
        return aligned

    def _note_setup(self, compiled: ov.CompiledModel, limits: Limits, feed: Feed) -> None:
        known = compiled.get_property("SUPPORTED_PROPERTIES")
        streams = compiled.get_property("NUM_STREAMS") if "NUM_STREAMS" in known else ""
        batches = sorted(set(feed.batches))
        self.report.info(f"Model batch size: {batches[0] if len(batches) == 1 else '?'}")
        values = {
            "topology": Path(self.options.path_to_model).stem,
            "target device": self.options.target_device,
            "processor": self.core.get_property(self.options.target_device, "FULL_DEVICE_NAME"),
            "API": self.api,
            "inference_only": not feed.is_inside,
            "precision": "UNSPECIFIED",
            "batch size": ",".join(map(str, batches)),
            "number of iterations": limits.iterations,
            "number of parallel infer requests": len(self.requests),
            "duration (ms)": (limits.seconds or 0) * 1000,
            f"number of {self.options.target_device} streams": streams,
        }
        self.statistics.setup(values | ({"load": self.options.load} if self.options.load else {}))

    def _note_measured(self) -> None:
        groups = self.groups if self.options.pcseq else []
        self.statistics.measured(self.measurement, self.options.latency_percentile, groups)

    def _write_settings(self, compiled: ov.CompiledModel, config: Config) -> None:
        options = self.options
        if options.dump_config is not None:
            dump_config(options.dump_config, options.target_device, config)
            self.report.info(f"Configuration settings were dumped to {options.dump_config}")
        if options.exec_graph_path is not None:
            profile = mean_profile([request.profiling_info for request in self.requests])
            ov.serialize(executed_graph(compiled, profile), options.exec_graph_path)
            self.report.info(f"The executed graph is stored to {options.exec_graph_path}")

    def _write_page(self, compiled: ov.CompiledModel | None) -> None:
        """The page of --report; steps are measured for it where nothing has gone wrong."""
        path = self.options.report
        if path is not None and self.measurement.iterations:
            explanation = None if compiled is None else compiled.explain(measure=True)
            write_page(path, self.statistics.sections, self.measurement, explanation)
            self.report.info(f"The page of the report is stored to {path}")

    def _conclude(self, compiled: ov.CompiledModel, config: Config) -> None:
        """Files first, since printing may fail; figures also when files cannot be written."""
        options, report = self.options, self.report
        report.step(11)
        self._note_measured()
        try:
            self.statistics.write()
            self._write_page(compiled)
            self._write_settings(compiled, config)
            profiles = [request.profiling_info for request in self.requests]
            self.statistics.write_counters(profiles)
            if options.perf_counts or options.perf_counts_sort:
                rows = ordered(mean_profile(profiles), options.perf_counts_sort or "simple_sort")
                if options.perf_counts_sort:
                    self.statistics.write_sorted(rows)
                report.info("Time of each node, the mean of one inference of each request:")
                for line in profile_table(rows):
                    report.info(line)
        finally:
            report.info(f"Execution Devices:{compiled.get_property('EXECUTION_DEVICES')}")
            report.results(self.measurement, options.latency_percentile, self.groups if options.pcseq else [])
