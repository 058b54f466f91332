"""Names of devices: parsed as written, refused with the rule."""

from __future__ import annotations

import pytest

from cpuruntime.devices.names import Argument, DeviceName, parse
from cpuruntime.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CPU", DeviceName("CPU")),
        ("GPU.0", DeviceName("GPU", "0")),
        ("GPU.0.1", DeviceName("GPU", "0.1")),
        ("MULTI:CPU(4),GPU", DeviceName("MULTI", "", (Argument("CPU", 4), Argument("GPU")))),
        ("MULTI:GPU.1(12),GPU.0", DeviceName("MULTI", "", (Argument("GPU.1", 12), Argument("GPU.0")))),
        ("BATCH:GPU(8)", DeviceName("BATCH", "", (Argument("GPU", 8),))),
        ("AUTO:-CPU", DeviceName("AUTO", "", (Argument("CPU", excluded=True),))),
    ],
)
def test_a_name_is_parsed_and_written_back(text: str, expected: DeviceName) -> None:
    assert parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("MULTI:BATCH:CPU(4),REFERENCE", [Argument("BATCH:CPU(4)"), Argument("REFERENCE")]),
        ("MULTI:REFERENCE,BATCH:CPU(4)", [Argument("REFERENCE"), Argument("BATCH:CPU(4)")]),
        ("AUTO:HETERO:GPU,CPU", [Argument("HETERO:GPU,CPU")]),
        ("MULTI:[HETERO:GPU,CPU](2),CPU.1", [Argument("HETERO:GPU,CPU", 2), Argument("CPU.1")]),
        ("AUTO:MULTI:BATCH:CPU(4),[HETERO:GPU,NPU]", [Argument("MULTI:[BATCH:CPU(4)],[HETERO:GPU,NPU]")]),
    ],
)
def test_arguments_with_arguments_of_their_own(text: str, arguments: list[Argument]) -> None:
    name = parse(text)
    assert list(name.arguments) == arguments
    assert parse(str(name)) == name
    assert [str(parse(one.device)) for one in arguments] == [one.device for one in arguments]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("MULTI:MULTI", "MULTI cannot run MULTI within itself"),
        ("MULTI:CPU,BATCH:MULTI:CPU", "MULTI cannot run MULTI within itself"),
        ("MULTI:[HETERO:GPU,CPU](0),CPU", r"the number in '\[HETERO:GPU,CPU\]\(0\)' must be at least 1"),
        ("MULTI:HETERO:", "'HETERO:': its argument '' is wrong"),
        ("MULTI:[A:B],[A:B]", "its arguments name A:B twice"),
        ("A:" * 9 + "B", "at most 8 devices have arguments"),
    ],
)
def test_a_wrong_list_of_devices_says_what_is_wrong(text: str, problem: str) -> None:
    with pytest.raises(InvalidArgumentError, match=problem):
        parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "", " CPU", "CPU ", "-CPU", "CPU(4)", "CPU.", ".0", "4CPU", "GPU.0:CPU", "CPÜ", "CPU\n", "CPU;", ":CPU",
        None, 3, b"CPU", ["CPU"],
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused_with_the_rule(text: object) -> None:
    with pytest.raises(InvalidArgumentError, match=r"a device name is NAME, NAME\.ID or NAME:ARG") as caught:
        parse(text)
    assert str(caught.value).startswith(f"Unknown device {text!r}: ")


@pytest.mark.parametrize(
    "part",
    [
        "", " GPU", "GPU()", "GPU(x)", "GPU(-1)", "GPU(1.5)", "GPU(1234567)", "-GPU(4)", "--GPU", "-A:B", "G.(",
        "[GPU]", "[GPU", "GPU]", "[A:B", ":B",
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named(part: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse(f"MULTI:CPU,{part}")
    assert f"'MULTI:CPU,{part}': its argument '{part}' is wrong; a device name is" in str(caught.value)


def test_arguments_count_from_one_and_name_a_device_once() -> None:
    with pytest.raises(InvalidArgumentError, match=r"'BATCH:GPU\(0\)': the number in 'GPU\(0\)' must be at least 1"):
        parse("BATCH:GPU(0)")
    with pytest.raises(InvalidArgumentError, match="'MULTI:CPU,GPU,CPU': its arguments name CPU twice"):
        parse("MULTI:CPU,GPU,CPU")
    assert len(parse("MULTI:GPU.0,GPU.1,GPU").arguments) == 3
