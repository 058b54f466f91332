"""`cpuruntime compare` before it measures: suites, installations, files, the conditions of the machine."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from cpuruntime.cli.main import main
from cpuruntime.compare.installations import installation
from cpuruntime.compare.suite import METRICS, Suite, read_suite
from cpuruntime.compare.watch import Watch
from cpuruntime.errors import InvalidArgumentError
from cpuruntime.host.cgroup import throttled_periods


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that suites name."""
    for name in ("a.onnx", "in.npz"):
        (tmp_path / name).touch()
    return tmp_path


def suite(folder: Path, text: str) -> Suite:
    path = folder / "suite.toml"
    path.write_text(text)
    return read_suite(path)


def test_a_model_takes_what_it_does_not_say_from_the_suite(folder: Path) -> None:
    found = suite(
        folder,
        """
        seconds = 5
        modes = ["latency1", "throughput"]
        thresholds = { time = 2, wheel = 1 }
        [[model]]
        path = "a.onnx"
        inputs = "in.npz"
        [[model]]
        name = "other"
        path = "light:squeezenet"
        modes = ["latency"]
        thresholds = { time = 10 }
        shapes = { x = [1, 3] }
        config = { NUM_STREAMS = 2 }
        """,
    )
    first, second = found.models
    assert (found.seconds, found.processes, found.wheel_threshold) == (5, 6, 1)
    assert (first.name, first.modes, first.thresholds["time"]) == ("a", ("latency1", "throughput"), 2)
    assert first.path == str(folder / "a.onnx")
    assert first.inputs == folder / "in.npz"
    assert (second.path, second.modes, second.thresholds["time"]) == ("light:squeezenet", ("latency",), 10)
    assert second.thresholds["memory"] == METRICS["memory"]


MODEL = '[[model]]\npath = "a.onnx"\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("secnds = 3\n" + MODEL, "the suite has 'secnds', which is no entry. Did you mean 'seconds'?"),
        ("seconds = 0\n" + MODEL, "seconds = 0 must be a number from 1 to 86400"),
        ("processes = 3\n" + MODEL, "processes = 3 must be a whole number from 4 to 100"),
        ("confidence = true\n" + MODEL, "confidence = True must be a number from 80 to 99.99"),
        ("modes = ['latncy']\n" + MODEL, "modes = ['latncy'] must be a list of different modes"),
        ("modes = []\n" + MODEL, "must be a list of different modes"),
        ("thresholds = { tim = 3 }\n" + MODEL, "thresholds has 'tim', which is no metric. Did you mean 'time'?"),
        ("thresholds = { time = 0 }\n" + MODEL, "must be a table of percentages from 0.1 to 1000"),
        ("seconds = 3", "the suite has no [[model]]"),
        ("model = 3", "model = 3 must be a list"),
        ("[[model]]\nname = 'x'", "[[model]] 1 has no 'path'"),
        ("[[model]]\npath = 'b.onnx'", "[[model]] 1: path: there is no file"),
        ("[[model]]\npath = 'light:squeeznet'", "Did you mean 'squeezenet'?"),
        (MODEL + "output = 'out.npz'", "[[model]] 1: output: there is no file"),
        (MODEL + "shapes = { x = [0] }", "must be a table of lists of positive whole numbers"),
        (MODEL + "tolerance = 2", "tolerance = 2 must be a number from 0 to 1"),
        (MODEL + "mode = ['latency']", "[[model]] 1 has 'mode', which is no entry. Did you mean 'modes'?"),
        (MODEL + MODEL, "two models have the name 'a'"),
        ("seconds = ", "Invalid value"),
    ],
)
def test_a_wrong_suite_is_one_line_that_names_the_entry(folder: Path, text: str, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        suite(folder, text)
    message = str(caught.value)
    assert complaint in message
    assert message.startswith(f"{folder / 'suite.toml'}: ")
    assert "\n" not in message


def test_a_suite_that_is_not_text(folder: Path) -> None:
    (folder / "suite.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidArgumentError, match="is not text"):
        read_suite(folder / "suite.toml")


def test_the_project_s_own_suite_is_right() -> None:
    assert len(read_suite(Path(__file__).parents[2] / "bench" / "suite.toml").models) >= 3


def test_installations_are_told_apart(tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    for text in (str(python), str(tmp_path / "venv")):
        found = installation(text, tmp_path, {})
        assert (found.python, found.folder) == (str(python), "")
    tree = tmp_path / "tree"
    (tree / "cpuruntime").mkdir(parents=True)
    (tree / "cpuruntime" / "__init__.py").touch()
    assert installation(str(tree), tmp_path, {}).folder == str(tree)
    assert (Path(installation(None, tmp_path, {}).folder) / "cpuruntime" / "compare").is_dir()


def test_a_wheel_is_installed_without_what_it_needs(tmp_path: Path) -> None:
    about = "cpuruntime-9.9.dist-info/"
    metadata = "Metadata-Version: 2.1\nName: cpuruntime\nVersion: 9.9\nRequires-Dist: no-such-package-there-is\n"
    files = {
        "cpuruntime/__init__.py": "",
        f"{about}METADATA": metadata,
        f"{about}WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}RECORD": "",
    }
    wheel, place = tmp_path / "cpuruntime-9.9-py3-none-any.whl", tmp_path / "place"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    found = installation(str(wheel), place, {})
    assert (found.label, found.folder, found.is_versioned) == (wheel.name, str(place), True)
    assert (place / "cpuruntime" / "__init__.py").is_file()


def test_a_git_ref_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository, place = tmp_path / "repository", tmp_path / "place"
    (repository / "inner").mkdir(parents=True)
    place.mkdir()
    monkeypatch.chdir(repository / "inner")
    names = {f"GIT_{role}_{what}": "x@y" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    git = ["git", "-c", "commit.gpgsign=false"]
    (repository / "file").write_text("first")
    for command in (["init", "-q", ".."], ["add", ".."], ["commit", "-q", "-m", "first"], ["tag", "one"]):
        subprocess.run([*git, *command], check=True, env={**os.environ, **names})
    (repository / "file").write_text("second")
    found = installation("one", place, {})
    assert (place / "file").read_text() == "first"
    assert found.folder == str(place)
    assert found.label.startswith("one (")
    with pytest.raises(InvalidArgumentError, match="'two' is no Python, virtual environment, wheel"):
        installation("two", place, {})


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("missing.whl", "There is no wheel 'missing.whl'"),
        ("bad.whl", "The wheel 'bad.whl' cannot be installed: "),
        ("bad-1.0-py3-none-any.whl", "The wheel 'bad-1.0-py3-none-any.whl' cannot be installed: "),
        (".", "'.' is a folder with neither bin/python nor cpuruntime/__init__.py"),
        ("--help", "'--help' is no Python"),
    ],
)
def test_what_is_no_installation_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("bad.whl", "bad-1.0-py3-none-any.whl"):
        Path(name).write_text("no zip")
    with pytest.raises(InvalidArgumentError) as caught:
        installation(text, tmp_path, {})
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--base", "x", "--json", "missing/x.json"], "--json missing/x.json: it must be a file that can be written"),
        ([], "base and head are this installation; give --base, --head or their configurations"),
        (["--base", "x", "--against", "y.json"], "--against takes the place of --base and --base-config"),
        (["--against", "y.json"], "y.json: No such file or directory."),
        (["--base-config", "NUM_STREAMS=1", "--head", "."], "is a folder with neither"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_measured(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    complaint: str,
) -> None:
    monkeypatch.chdir(folder)
    (folder / "suite.toml").write_text(MODEL)
    assert main(["compare", "suite.toml", *arguments]) == 1
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert captured.err.count("\n") == 1


def test_a_configuration_is_names_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "x.toml", "--base-config", "NUM_STREAMS"]) == 2
    assert "'NUM_STREAMS' is not of the form NAME=VALUE" in capsys.readouterr().err


class Machine:
    """A file system in which processors count, and a clock."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.now = 0.0
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
        (root / "proc").mkdir()
        self.throttle = root / "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count"
        self.throttle.parent.mkdir(parents=True)
        self.throttle.write_text("0")
        self.set(0, 0)

    def set(self, busy: int, stolen: int) -> None:
        """Ticks of processor 0; processor 2 is not allowed and does not count."""
        first, others = f"cpu0 {busy} 0 0 9 0 0 0 {stolen} 0 0", ["cpu1" + " 0" * 10, "cpu2" + " 99" * 10]
        lines = ["cpu 1 1 1 1", first, *others]
        (self.root / "proc/stat").write_text("\n".join(lines))

    def clock(self) -> float:
        self.now += 0.001
        return self.now


@pytest.mark.parametrize(
    ("busy", "stolen", "own", "throttled", "loops", "disturbance"),
    [
        (100, 0, 1.0, 0, [0.001], ""),
        (100, 0, 0.5, 0, [0.001], "other processes ran"),
        (100, 10, 1.0, 0, [0.001], "processor time was stolen"),
        (100, 0, 1.0, 1, [0.001], "the processors were throttled"),
        (100, 0, 1.0, 0, [0.001, 0.0011], "the calibration loop took longer"),
    ],
)
def test_disturbances_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    busy: int, stolen: int, own: float, throttled: int, loops: list[float], disturbance: str,
) -> None:  # fmt: skip
    machine = Machine(tmp_path, monkeypatch)
    watch = Watch(tmp_path, machine.clock)
    assert watch.calibrate() == pytest.approx(0.001)
    before = watch.snapshot()
    machine.now += 1.0
    machine.set(busy, stolen)
    machine.throttle.write_text(str(throttled))
    found = watch.conditions(before, watch.snapshot(), own, loops)
    assert found.disturbance == disturbance
    assert found.foreign == pytest.approx((busy * 0.01 - own) / 2.002, abs=1e-3)
    assert found.stolen == pytest.approx(stolen * 0.01 / 2.002, abs=1e-3)


def test_a_machine_that_says_nothing_disturbs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch(tmp_path)
    loops = [watch.calibrate()]
    before = watch.snapshot()
    assert watch.conditions(before, watch.snapshot(), 0.0, loops).disturbance == ""


def test_periods_in_which_a_quota_stopped_the_group_are_counted(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/job\n")
    (tmp_path / "proc/self/mountinfo").write_text("1 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n")
    for group, count in (("", 2), ("job", 5)):
        folder = tmp_path / "sys/fs/cgroup" / group
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cpu.stat").write_text(f"nr_periods 9\nnr_throttled {count}\nthrottled_usec 1\n")
    assert throttled_periods(tmp_path) == 7
    assert throttled_periods(tmp_path / "nothing") == 0
