"""Packs of kernels: what is written is read, damage and foreign files are refused, and where packs are found."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import stat
import threading
from pathlib import Path

import pytest
from support.users import OTHER, run_script, two_users

from cpuruntime.properties import OTHER_VARIABLES
from cpuruntime.store import Pack, kernel_packs, pack, write_pack
from cpuruntime.store.pack import MAGIC, PREFIX

KERNELS = {
    "x86-64-v3": {"cpuruntime_a": ("Sign", b"code of a" * 30), "cpuruntime_b": ("Neg", b"code of b")},
    "x86-64-v4": {"cpuruntime_c": ("Sign", b"code of c")},
}
PLANS = {"9000": {"a key": ("a model", b"a plan" * 20)}}
MADE_BY = {"cpuruntime": "1.2", "numba": "0.68"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_pack(tmp_path / "zoo.pack", MADE_BY, KERNELS, PLANS)
    return tmp_path / "zoo.pack"


@pytest.fixture(autouse=True)
def _no_own_packs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pack, "OWN", tmp_path / "none")


def same(found: Pack) -> bool:
    tables = [*KERNELS.values(), *PLANS.values()]
    codes = {symbol: code for entries in tables for symbol, (_, code) in entries.items()}
    return {symbol: found.read(symbol) for symbol in codes} == codes


def test_what_is_written_is_read(file: Path) -> None:
    found = Pack(file)
    assert same(found)
    assert found.read("cpuruntime_d") is None
    assert "cpuruntime_a" in found
    assert "cpuruntime_d" not in found
    assert found.made_by == MADE_BY
    assert found.nbytes == file.stat().st_size
    assert {level: {s: e.name for s, e in rows.items()} for level, rows in found.levels.items()} == {
        level: {symbol: name for symbol, (name, _) in rows.items()} for level, rows in KERNELS.items()
    }
    assert [[*entries] for entries in found.plans.values()] == [["a key"]]
    assert os.listdir(file.parent) == ["zoo.pack"]


def test_a_pack_is_the_same_for_the_same_kernels(file: Path, tmp_path: Path) -> None:
    turned = {level: dict(reversed(rows.items())) for level, rows in reversed(KERNELS.items())}
    write_pack(tmp_path / "again.pack", MADE_BY, turned, PLANS)
    assert (tmp_path / "again.pack").read_bytes() == file.read_bytes()


def test_every_changed_byte_is_noticed(file: Path) -> None:
    """In the header and the index the pack is refused; in an object that object is."""
    whole = file.read_bytes()
    index = PREFIX + int.from_bytes(whole[48:56], "little")
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        if at < index:
            with pytest.raises(ValueError, match=r"it is no pack|damaged"):
                Pack(file)
        else:
            found = Pack(file)
            with pytest.raises(ValueError, match=r"what it has of (Sign|Neg|a model) is damaged"):
                same(found)


def test_a_pack_of_another_length_is_refused(file: Path) -> None:
    whole = file.read_bytes()
    for size in range(len(whole)):
        file.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"it is no pack|truncated"):
            Pack(file)
    file.write_bytes(whole + b"\0")
    with pytest.raises(ValueError, match="truncated"):
        Pack(file)


@pytest.mark.parametrize(
    "rows",
    [
        [], [1], {}, [{}, {}], [{}, [], {}], [{}, {}, []], [{}, {}, {}, {}], [{}, {"v3": []}, {}],
        *(table for row in (
            [], ["a", 0, 1], ["a", -1, 1, ""], ["a", 0, 9, ""], ["a", 2**70, 1, ""], ["a", 5, -3, ""],
            ["a", "0", 1, ""],
        ) for table in ([{}, {"v3": {"a": row}}, {}], [{}, {}, {"9000": {"a": row}}])),
    ],
)  # fmt: skip
def test_an_index_of_another_form_is_refused(tmp_path: Path, rows: object) -> None:
    """Its digest may be right, since another writer can have made it."""
    index = json.dumps(rows).encode()
    sizes = len(index).to_bytes(8, "little") + (PREFIX + len(index) + 8).to_bytes(8, "little")
    path = tmp_path / "odd.pack"
    path.write_bytes(MAGIC + hashlib.sha256(sizes + index).digest() + sizes + index + bytes(8))
    with pytest.raises(ValueError, match=r"index|lies outside|unpack"):
        Pack(path)


@pytest.mark.parametrize("bits", [0o664, 0o646])
def test_a_pack_that_others_may_write_is_refused(file: Path, bits: int) -> None:
    file.chmod(bits)
    with pytest.raises(PermissionError, match="other users can write to it"):
        Pack(file)
    assert same(Pack(file, trusted=True)), "the package's code could be changed as well"


def test_a_pack_of_root_or_of_the_user_is_used(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = file.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner:
        with pytest.raises(PermissionError, match=f"it belongs to user {owner}, neither to {owner + 1} nor to root"):
            Pack(file)
    else:
        assert same(Pack(file))


@two_users
def test_a_pack_of_another_user_is_refused(file: Path) -> None:
    os.chown(file, OTHER, -1)
    with pytest.raises(PermissionError, match=f"it belongs to user {OTHER}"):
        Pack(file)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_refused(tmp_path: Path, make: object) -> None:
    assert callable(make)
    make(tmp_path / "a.pack")
    with pytest.raises(OSError, match="it is not a regular file"):
        Pack(tmp_path / "a.pack")


def test_a_pack_that_is_replaced_is_read_to_its_end(file: Path) -> None:
    found = Pack(file)
    write_pack(file, MADE_BY, {})
    assert same(found)
    assert not Pack(file).levels


def test_a_pack_that_is_cut_meanwhile_raises_an_error(file: Path) -> None:
    found = Pack(file)
    os.truncate(file, 300)
    with pytest.raises(ValueError, match="is damaged"):
        same(found)


def test_two_writers_at_once(tmp_path: Path) -> None:
    """Each writes a whole file; the last one's stays."""
    barrier = threading.Barrier(4)

    def write(number: int) -> None:
        barrier.wait()
        for _ in range(20):
            write_pack(tmp_path / "a.pack", {"number": str(number)}, {"v3": {"s": ("Sign", bytes([number]) * 9999)}})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        if (tmp_path / "a.pack").exists():
            found = Pack(tmp_path / "a.pack")
            assert found.read("s") == bytes([int(found.made_by["number"])]) * 9999
    assert os.listdir(tmp_path) == ["a.pack"]


def test_a_disk_without_space_leaves_the_pack_that_was_there(file: Path) -> None:
    before, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_pack(file, MADE_BY, {"v3": {"s": ("Sign", bytes(10_000))}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == ["zoo.pack"]


def test_where_packs_are(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Files and folders in the order of the variable, then those of the package; what cannot be used is logged."""
    for name in ("more/b.pack", "more/a.pack", "own/c.pack"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(file.read_bytes())
    (tmp_path / "own" / "c.pack").chmod(0o666)
    (tmp_path / "more" / "text").write_text("no pack")
    (tmp_path / "more" / "damaged.pack").write_text("no pack")
    monkeypatch.setattr(pack, "OWN", tmp_path / "own")
    places = [tmp_path / "more", file, "", tmp_path / "missing.pack"]
    monkeypatch.setenv("CPURUNTIME_KERNEL_PATH", os.pathsep.join(map(str, places)))
    found = [one.path for one in kernel_packs.__wrapped__()]
    assert found == [tmp_path / name for name in ("more/a.pack", "more/b.pack", "zoo.pack", "own/c.pack")]
    assert [record.getMessage() for record in caplog.records] == [
        f"kernel pack {tmp_path}/more/damaged.pack is not used: it is no pack of this version's format",
        f"kernel pack {tmp_path}/missing.pack is not used: No such file or directory",
    ]
    monkeypatch.delenv("CPURUNTIME_KERNEL_PATH")
    assert [one.path for one in kernel_packs.__wrapped__()] == [tmp_path / "own" / "c.pack"]
    assert "KERNEL_PATH" in OTHER_VARIABLES


@two_users
def test_the_path_of_a_user_who_is_not_trusted_is_ignored(file: Path) -> None:
    script = f"""
from cpuruntime.store import kernel_packs
print([pack.path.name for pack in kernel_packs()])
kernel_packs.cache_clear()
become({OTHER}, real=0)
print([pack.path.name for pack in kernel_packs()])
"""
    first, said, second = run_script(script, CPURUNTIME_KERNEL_PATH=str(file))
    assert first == "['zoo.pack']"
    assert "the environment is ignored" in said
    assert second == "[]"


def test_a_pack_can_be_read_by_others(file: Path) -> None:
    assert stat.S_IMODE(file.stat().st_mode) & 0o777 == 0o666 & ~_umask()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
