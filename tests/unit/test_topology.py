"""What the topology reads from trees of files as Linux shows them, and what it makes of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cpuruntime.host.cgroup import cpu_quota, memory_left, memory_limit
from cpuruntime.host.processors import Cache, Cpu, cpu_list, parse_cpu_list
from cpuruntime.host.topology import Topology

V2_MOUNT = "31 23 0:28 / /sys/fs/cgroup rw,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "32 31 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return root


def v2(root: Path, group: str, maxima: dict[str, str], mount: str = V2_MOUNT) -> Path:
    files = {"proc/self/cgroup": f"0::{group}", "proc/self/mountinfo": mount}
    return write(root, files | {f"sys/fs/cgroup/{place}cpu.max": text for place, text in maxima.items()})


def v1(root: Path, group: str, quotas: dict[str, int], mount_root: str = "/") -> Path:
    files = {
        "proc/self/cgroup": f"9:name=systemd:/other\n4:memory:/m\n2:cpu,cpuacct:{group}\n0::/",
        "proc/self/mountinfo": V1_MOUNT.format(root=mount_root),
    }
    for place, quota in quotas.items():
        folder = f"sys/fs/cgroup/cpu,cpuacct/{place}"
        files |= {f"{folder}cpu.cfs_quota_us": str(quota), f"{folder}cpu.cfs_period_us": "100000"}
    return write(root, files)


def cpus_of(root: Path) -> float | None:
    """The CPUs of the quota."""
    found = cpu_quota(root)
    return None if found is None else found.cpus


class TestQuota:
    def test_nothing_readable_is_no_quota(self, tmp_path: Path) -> None:
        assert cpus_of(tmp_path) is None

    @pytest.mark.parametrize(("text", "quota"), [("max 100000", None), ("150000 100000", 1.5), ("400000 100000", 4.0)])
    def test_version_2(self, tmp_path: Path, text: str, quota: float | None) -> None:
        assert cpus_of(v2(tmp_path, "/app", {"app/": text})) == quota

    def test_the_smallest_on_the_way_up_counts(self, tmp_path: Path) -> None:
        maxima = {"a/b/c/": "max 100000", "a/b/": "800000 100000", "a/": "200000 100000", "x/": "100000 100000"}
        assert cpus_of(v2(tmp_path, "/a/b/c", maxima)) == 2

    def test_version_2_mounted_from_a_group_as_in_a_container(self, tmp_path: Path) -> None:
        mount = V2_MOUNT.replace(" / /sys", " /docker/1f /sys")
        maxima = {"": "300000 100000", "inner/": "max 100000"}
        assert cpus_of(v2(tmp_path, "/docker/1f/inner", maxima, mount)) == 3

    @pytest.mark.parametrize("group", ["/elsewhere", "/../outside"])
    def test_a_group_outside_of_the_mount_counts_as_its_top(self, tmp_path: Path, group: str) -> None:
        mount = V2_MOUNT.replace(" / /sys", " /docker/1f /sys")
        assert cpus_of(v2(tmp_path, group, {"": "300000 100000"}, mount)) == 3

    def test_a_mount_point_with_a_blank(self, tmp_path: Path) -> None:
        files = {"proc/self/cgroup": "0::/g", "my groups/g/cpu.max": "500000 100000"}
        files["proc/self/mountinfo"] = "31 23 0:28 / /my\\040groups rw - cgroup2 none rw"
        assert cpus_of(write(tmp_path, files)) == 5

    @pytest.mark.parametrize(("quota", "expected"), [(-1, None), (250_000, 2.5)])
    def test_version_1(self, tmp_path: Path, quota: int, expected: float | None) -> None:
        assert cpus_of(v1(tmp_path, "/pod", {"pod/": quota})) == expected

    def test_version_1_in_a_container(self, tmp_path: Path) -> None:
        assert cpus_of(v1(tmp_path, "/docker/1f", {"": 150_000}, mount_root="/docker/1f")) == 1.5

    def test_both_versions_mounted(self, tmp_path: Path) -> None:
        root = v1(tmp_path, "/pod", {"pod/": 400_000, "": -1})
        mounts = (root / "proc/self/mountinfo").read_text() + V2_MOUNT.replace("/cgroup rw", "/cgroup/unified rw")
        write(root, {"proc/self/mountinfo": mounts, "sys/fs/cgroup/unified/cpu.max": "300000 100000"})
        assert cpus_of(root) == 3

    def test_the_group_that_sets_the_quota_is_told_apart_from_others(self, tmp_path: Path) -> None:
        maxima = {"a/": "200000 100000", "a/b/": "max 100000", "a/c/": "400000 100000", "x/": "200000 100000"}
        groups = []
        for group in ("/a", "/a/b", "/a/c", "/x"):
            found = cpu_quota(v2(tmp_path, group, maxima))
            assert found is not None
            groups.append(found.group)
            assert Topology.read(tmp_path, range(4)).group == found.group
        assert groups[0] == groups[1] == groups[2] != groups[3]
        assert all(groups)

    @pytest.mark.parametrize("line", ["", "nonsense", "0:", "1:cpu", ":", "\0", "0::\0", "²:cpu:/x"])
    def test_a_line_of_groups_that_is_none_limits_nothing(self, tmp_path: Path, line: str) -> None:
        root = v2(tmp_path, "/app", {"app/": "200000 100000"})
        assert cpus_of(write(root, {"proc/self/cgroup": f"{line}\n0::/app"})) == 2
        assert cpus_of(write(root, {"proc/self/cgroup": line})) is None

    @pytest.mark.parametrize(
        "line",
        ["", "nonsense", " - ", "31 23 0:28 - cgroup2 cgroup2 rw", "31 23 0:28 / /sys/fs/cgroup rw",
         "31 23 0:28 / /sys/fs/cgroup rw - cgroup2", "31 23 0:28 / /sys\\000 rw - cgroup2 cgroup2 rw"],
    )  # fmt: skip
    def test_a_line_of_mounts_that_is_none_limits_nothing(self, tmp_path: Path, line: str) -> None:
        root = v2(tmp_path, "/app", {"app/": "200000 100000"}, f"{line}\n{V2_MOUNT}")
        assert cpus_of(root) == 2
        assert cpus_of(write(root, {"proc/self/mountinfo": line})) is None

    @pytest.mark.parametrize("text", ["", "1", "² 100000", "-1 100000", f"{'9' * 5000} 100000", "100000 0", "x y z"])
    def test_a_quota_that_is_none(self, tmp_path: Path, text: str) -> None:
        assert cpus_of(v2(tmp_path, "/app", {"app/": text})) is None


CPUS = "sys/devices/system/cpu"


def system(root: Path, siblings: dict[int, str], nodes: dict[int, str]) -> Path:
    """A tree that describes processors by their siblings and NUMA nodes by their processors."""
    write(root, {f"{CPUS}/cpu{i}/topology/thread_siblings_list": text for i, text in siblings.items()})
    return write(root, {f"sys/devices/system/node/node{i}/cpulist": text for i, text in nodes.items()})


class TestTopology:
    def test_siblings_come_last(self, tmp_path: Path) -> None:
        siblings = {0: "0,4", 1: "1,5", 2: "2,6", 3: "3,7", 4: "0,4", 5: "1,5", 6: "2,6", 7: "3,7"}
        topology = Topology.read(system(tmp_path, siblings, {}), allowed=range(8))
        assert topology.order() == [0, 1, 2, 3, 4, 5, 6, 7]
        assert topology.ranks() == {**dict.fromkeys(range(4), 0), **dict.fromkeys(range(4, 8), 1)}

    def test_siblings_numbered_side_by_side(self, tmp_path: Path) -> None:
        siblings = {i: f"{i // 2 * 2}-{i // 2 * 2 + 1}" for i in range(6)}
        topology = Topology.read(system(tmp_path, siblings, {}), range(6))
        assert topology.order() == [0, 2, 4, 1, 3, 5]

    def test_only_allowed_processors(self, tmp_path: Path) -> None:
        siblings = {0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}
        topology = Topology.read(system(tmp_path, siblings, {}), allowed={1, 2, 3})
        assert topology.order() == [1, 2, 3]
        assert topology.ranks()[1] == 0, "the only allowed thread of its core is the core's first"

    def test_nodes_are_filled_one_after_the_other(self, tmp_path: Path) -> None:
        topology = Topology.read(system(tmp_path, {}, {0: "0,2", 1: "1,3"}), allowed=range(4))
        assert topology.cpus == (Cpu(0, 0, 0), Cpu(1, 1, 1), Cpu(2, 2, 0), Cpu(3, 3, 1))
        assert topology.order() == [0, 2, 1, 3]

    def test_sockets(self, tmp_path: Path) -> None:
        write(tmp_path, {f"{CPUS}/cpu{i}/topology/physical_package_id": str(i // 2 * 3) for i in range(4)})
        write(tmp_path, {f"{CPUS}/cpu4/topology/physical_package_id": "-1"})
        assert [cpu.socket for cpu in Topology.read(tmp_path, range(5)).cpus] == [0, 0, 3, 3, 0]

    @pytest.mark.parametrize(
        ("maximum", "usable"), [("250000 100000", 2), ("50000 100000", 1), ("6400000 100000", 8), ("max 100000", 8)]
    )
    def test_cores_withheld_by_the_quota_do_not_count(self, tmp_path: Path, maximum: str, usable: int) -> None:
        assert Topology.read(v2(tmp_path, "/g", {"g/": maximum}), allowed=range(8)).usable == usable

    def test_unreadable_descriptions_make_every_processor_a_core(self, tmp_path: Path) -> None:
        root = system(tmp_path, {0: "x-y", 1: ""}, {0: "?"})
        write(root, {f"{CPUS}/cpu0/cpu_capacity": "much", f"{CPUS}/cpu0/cache/index0/level": "?"})
        topology = Topology.read(root, allowed=[0, 1])
        assert topology.cpus == (Cpu(0, 0, 0), Cpu(1, 1, 0))
        assert topology.caches == ()

    def test_the_caller_s_node(self, tmp_path: Path) -> None:
        root = system(tmp_path, {}, {0: "0-1", 1: "2-3"})
        fields = [str(i) for i in range(52)]
        fields[36] = "3"
        write(root, {"proc/thread-self/stat": f"17 (a ) name) {' '.join(fields)}"})
        assert Topology.read(root, range(4)).node == 1
        assert Topology.read(root, range(2)).node == 0, "the processor it runs on is not an allowed one"

    def test_this_machine(self) -> None:
        topology = Topology.read()
        assert {cpu.index for cpu in topology.cpus} == os.sched_getaffinity(0)
        assert 1 <= topology.usable <= len(topology.cpus)
        assert sorted(topology.order()) == sorted(cpu.index for cpu in topology.cpus)
        assert topology.node in {cpu.node for cpu in topology.cpus}


class TestCoreTypes:
    def types(self, root: Path, count: int) -> str:
        return "".join(cpu.type for cpu in Topology.read(root, range(count)).cpus)

    def test_as_the_kernel_names_them(self, tmp_path: Path) -> None:
        devices = {"cpu_core": "0-3", "cpu_atom": "4-5", "cpu_lowpower": "6"}
        write(tmp_path, {f"sys/devices/{name}/cpus": text for name, text in devices.items()})
        assert self.types(tmp_path, 7) == "PPPPEEE"

    def test_only_slow_cores_are_no_hybrid(self, tmp_path: Path) -> None:
        write(tmp_path, {"sys/devices/cpu_atom/cpus": "0-3"})
        assert self.types(tmp_path, 4) == "PPPP"

    @pytest.mark.parametrize("name", ["cpu_capacity", "cpufreq/cpuinfo_max_freq"])
    @pytest.mark.parametrize(
        ("speeds", "types"), [("1024 1024 512 400", "PPEE"), ("1024 980 930 1024", "PPPP"), ("5100 5100 3700", "PPE")]
    )
    def test_by_speed(self, tmp_path: Path, name: str, speeds: str, types: str) -> None:
        write(tmp_path, {f"{CPUS}/cpu{i}/{name}": speed for i, speed in enumerate(speeds.split())})
        assert self.types(tmp_path, len(types)) == types

    def test_capacity_is_believed_before_frequency(self, tmp_path: Path) -> None:
        write(tmp_path, {f"{CPUS}/cpu{i}/cpu_capacity": str(512 + 512 * i) for i in range(2)})
        write(tmp_path, {f"{CPUS}/cpu{i}/cpufreq/cpuinfo_max_freq": str(5000 - 4000 * i) for i in range(2)})
        assert self.types(tmp_path, 2) == "EP"


def test_caches_are_listed_once_with_their_sharers(tmp_path: Path) -> None:
    kinds = [("1", "Data", "48K", "{0}"), ("1", "Instruction", "64K", "{0}"), ("2", "Unified", "2M", "{1}"),
             ("3", "Unified", "1G", "0-7")]  # fmt: skip
    for cpu in range(4):
        for index, (level, kind, size, shared) in enumerate(kinds):
            folder = f"{CPUS}/cpu{cpu}/cache/index{index}"
            sharers = shared.format(cpu, "0-1" if cpu < 2 else "2-3")
            write(tmp_path, {f"{folder}/level": level, f"{folder}/type": kind, f"{folder}/size": size,
                             f"{folder}/shared_cpu_list": sharers})  # fmt: skip
    assert Topology.read(tmp_path, [0, 1, 3]).caches == (
        Cache(1, 48 * 2**10, (0,)), Cache(1, 48 * 2**10, (1,)), Cache(1, 48 * 2**10, (3,)),
        Cache(2, 2**21, (0, 1)), Cache(2, 2**21, (3,)), Cache(3, 2**30, (0, 1, 3)),
    )  # fmt: skip


def test_a_part_of_a_machine() -> None:
    cpus = tuple(Cpu(i, i % 4, node=i % 4 // 2) for i in range(8))
    caches = (Cache(2, 10, (0, 4)), Cache(2, 10, (2, 6)), Cache(3, 50, tuple(range(8))))
    whole = Topology(cpus, 3, caches, node=1)
    assert whole.restricted(range(8)) == whole
    part = whole.restricted({0, 2, 3, 4, 99})
    assert part.cpus == (cpus[0], cpus[2], cpus[3], cpus[4])
    assert part.caches == (Cache(2, 10, (0, 4)), Cache(2, 10, (2,)), Cache(3, 50, (0, 2, 3, 4)))
    assert (part.quota, part.node) == (3, 1)
    assert Topology.from_json(whole.restricted({0, 5}).to_json()).node == 0, "the caller's node has none of them"
    assert whole.restricted({0}).caches == (Cache(2, 10, (0,)), Cache(3, 50, (0,)))


@pytest.mark.parametrize(
    ("quota", "count", "expected"),
    [
        (None, 1, [[0, 1, 2, 3, 4, 5]]),
        (None, 2, [[0, 3], [1, 2, 4, 5]]),
        (None, 9, [[0, 3], [1, 4], [2, 5]]),
        (3, 2, [[0], [1, 2]]),
        (2, 3, [[0], [1]]),
    ],
)
def test_parts_have_cores_of_their_own_and_share_the_quota(
    quota: int | None, count: int, expected: list[list[int]]
) -> None:
    cpus = tuple(Cpu(index, index % 3) for index in range(6))  # 3 cores of 2 siblings
    parts = Topology(cpus, quota).parts(count)
    assert [[cpu.index for cpu in part.cpus] for part in parts] == expected
    assert sum(part.usable for part in parts) == min(6, quota or 6)


@pytest.mark.parametrize(("text", "numbers"), [("", []), ("3\n", [3]), ("0-2,7,9-10\n", [0, 1, 2, 7, 9, 10])])
def test_cpu_lists(text: str, numbers: list[int]) -> None:
    assert parse_cpu_list(text) == numbers
    assert cpu_list(reversed(numbers)) == text.strip()


@pytest.mark.parametrize("text", ["3-0", "3-0,5", "5,3-0", "x", "1-2-3"])
def test_what_is_no_cpu_list(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_cpu_list(text)


@pytest.mark.parametrize(("limits", "found"), [({}, None), ({"g": "max"}, None), ({"g": "900", "": "500"}, 500)])
def test_the_memory_limit_is_the_smallest_on_the_way(
    tmp_path: Path, limits: dict[str, str], found: int | None
) -> None:
    files = {"proc/self/cgroup": "0::/g", "proc/self/mountinfo": V2_MOUNT}
    write(tmp_path, files | {f"sys/fs/cgroup/{place}/memory.max": text for place, text in limits.items()})
    assert memory_limit(tmp_path) == found


@pytest.mark.parametrize(
    ("group", "found"),
    [
        ({"max": "900"}, 400),
        ({"max": "900", "current": "850"}, 50),
        ({"max": "900", "current": "850", "stat": "anon 9\ninactive_file 100\n"}, 150),
        ({"max": "9", "current": "10"}, 0),
    ],
)
def test_what_is_left_of_memory_is_the_least_on_the_way(tmp_path: Path, group: dict[str, str], found: int) -> None:
    """Files that are cached can be dropped."""
    files = {"proc/self/cgroup": "0::/g", "proc/self/mountinfo": V2_MOUNT}
    above = {"sys/fs/cgroup/memory.max": "500", "sys/fs/cgroup/memory.current": "100"}
    write(tmp_path, files | above | {f"sys/fs/cgroup/g/memory.{name}": text for name, text in group.items()})
    assert memory_left(tmp_path) == found


def test_the_memory_limit_of_version_1(tmp_path: Path) -> None:
    mount = "32 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
    files = {"proc/self/cgroup": "4:memory:/m\n2:cpu:/c", "proc/self/mountinfo": mount}
    write(tmp_path, files | {"sys/fs/cgroup/memory/m/memory.limit_in_bytes": "12345"})
    assert memory_limit(tmp_path) == 12345
