"""The store: private folders only, valid files only, the first writer wins, and a limit of size."""

from __future__ import annotations

import logging
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cpuruntime.store import Folder, cache_folder
from cpuruntime.store.folder import DAY, HOUR

CONTENT = bytes(range(256)) * 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "above" / "folder"


@pytest.fixture
def folder(path: Path) -> Folder:
    return Folder(path)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(path: Path) -> set[str]:
    return {file.name for file in path.iterdir()}


def age(file: Path, seconds: float) -> None:
    os.utime(file, (time.time() - seconds,) * 2)


def test_what_is_written_is_read(folder: Folder, path: Path) -> None:
    assert folder.read("a") is None
    assert not folder.has("a")
    assert folder.publish("a", CONTENT) == CONTENT
    assert folder.has("a")
    assert folder.read("a") == CONTENT
    assert Folder(path).read("a") == CONTENT
    assert folder.read("b") is None
    assert names(path) == {"a"}
    assert mode(path / "a") == 0o600


def test_the_folder_is_usable_until_the_process_has_ended(path: Path) -> None:
    script = f"""
import atexit
from pathlib import Path
from cpuruntime.store import Folder
made = []
atexit.register(lambda: made[0].publish("a", b"late"))
made.append(Folder(Path({str(path)!r})))
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).resolve().parents[2])
    assert Folder(path).read("a") == b"late"


def test_the_first_writer_wins(folder: Folder, path: Path) -> None:
    folder.publish("a", b"first")
    assert Folder(path).publish("a", b"second") == b"first"
    assert folder.read("a") == b"first"
    assert names(path) == {"a"}


@pytest.mark.parametrize(
    "damage",
    [
        lambda found: b"", lambda found: found[:20], lambda found: found[:32], lambda found: found[:-1],
        lambda found: found + b"\0", lambda found: found[:-1] + b"x", lambda found: CONTENT,
    ],
)  # fmt: skip
def test_damaged_files_are_ignored_and_replaced(folder: Folder, path: Path, damage: object) -> None:
    folder.publish("a", CONTENT)
    assert callable(damage)
    (path / "a").write_bytes(damage((path / "a").read_bytes()))
    assert folder.read("a") is None
    assert folder.publish("a", b"new") == b"new"
    assert folder.read("a") == b"new"


def test_a_valid_file_under_another_name_is_ignored(folder: Folder, path: Path) -> None:
    folder.publish("a", CONTENT)
    (path / "a").rename(path / "b")
    assert folder.read("b") is None
    assert folder.publish("b", b"new") == b"new"


@pytest.mark.parametrize("bits", [0o620, 0o602])
def test_files_that_others_may_write_are_ignored(folder: Folder, path: Path, bits: int) -> None:
    folder.publish("a", CONTENT)
    (path / "a").chmod(bits)
    assert folder.read("a") is None
    folder.publish("a", CONTENT)
    assert folder.read("a") == CONTENT


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_is_not_read(folder: Folder, path: Path, make: object) -> None:
    assert callable(make)
    make(path / "a")
    assert folder.read("a") is None
    assert folder.publish("a", CONTENT) == CONTENT


def test_links_are_not_followed(folder: Folder, path: Path, tmp_path: Path) -> None:
    folder.publish("a", CONTENT)
    (path / "a").rename(tmp_path / "elsewhere")
    (path / "a").symlink_to(tmp_path / "elsewhere")
    assert folder.read("a") is None


def test_a_text_is_for_people_only(folder: Folder, path: Path) -> None:
    folder.write_text("a.py", "text")
    assert (path / "a.py").read_text() == "text"
    assert folder.read("a.py") is None


def caches_nothing(folder: Folder) -> bool:
    folder.write_text("t", "text")
    return folder.publish("a", CONTENT) == CONTENT and folder.read("a") is None and not folder.has("a")


@pytest.mark.parametrize("bits", [0o770, 0o702, 0o777])
def test_a_folder_that_others_may_write_is_refused(path: Path, caplog: pytest.LogCaptureFixture, bits: int) -> None:
    path.mkdir(parents=True)
    path.chmod(bits)
    assert caches_nothing(Folder(path))
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert f"{path} cannot be used" in caplog.text
    assert "other users can write to it" in caplog.text
    assert not names(path)


def test_a_folder_of_another_user_is_refused(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.mkdir(parents=True)
    owner = path.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert caches_nothing(Folder(path))
    assert f"it belongs to user {owner}, not to {owner + 1}" in caplog.text
    assert len(caplog.records) == 1


def test_a_link_or_a_file_in_place_of_the_folder_is_refused(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    (path.parent / "real").mkdir(mode=0o700)
    path.symlink_to("real")
    assert caches_nothing(Folder(path))
    path.unlink()
    path.write_text("a file")
    assert caches_nothing(Folder(path))
    assert caches_nothing(Folder(path / "below"))
    assert len(caplog.records) == 3


def test_without_a_folder_nothing_is_cached(caplog: pytest.LogCaptureFixture) -> None:
    assert caches_nothing(Folder(None))
    assert not caplog.records


def test_a_failing_disk_costs_one_line(
    folder: Folder, path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    monkeypatch.setattr(os, "replace", full)
    assert folder.publish("a", CONTENT) == CONTENT
    assert folder.publish("b", CONTENT) == CONTENT
    assert "a could not be written" in caplog.text
    assert len(caplog.records) == 1
    assert not names(path)


def test_a_file_system_without_links(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object, **more: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refused)
    folder.publish("a", b"first")
    assert folder.publish("a", b"second") == b"first"


def test_a_swapped_folder_changes_nothing(folder: Folder, path: Path) -> None:
    folder.publish("a", b"mine")
    path.rename(path.parent / "old")
    Folder(path).publish("a", b"foreign")
    assert folder.read("a") == b"mine"


def test_a_relative_folder_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Folder(Path("c"))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    folder.publish("a", CONTENT)
    assert folder.path == tmp_path / "c"
    assert names(tmp_path / "c") == {"a"}


def test_writers_agree(path: Path) -> None:
    """Every thread gets the content of one of them, and it is the same for all."""
    barrier, found = threading.Barrier(8), []

    def write(number: int) -> None:
        folder = Folder(path)
        barrier.wait()
        found.append([folder.publish(str(i), b"%d" % number * 5000) for i in range(20)])

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(one == found[0] for one in found)
    assert len(names(path)) == 20


SCRIPT = """
import sys
from cpuruntime.store import Folder
from pathlib import Path
folder = Folder(Path(sys.argv[1]))
for i in range(200):
    content = folder.publish(str(i), sys.argv[2].encode() * 3000)
    found = folder.read(str(i))
    assert found == content and len(set(content)) == 1, (i, content[:9], found and found[:9])
"""


def test_processes_agree(path: Path) -> None:
    commands = [[sys.executable, "-c", SCRIPT, str(path), letter] for letter in "ab"]
    processes = [subprocess.Popen(command) for command in commands]
    assert [process.wait(60) for process in processes] == [0, 0]


def test_what_was_not_used_for_longest_is_removed(path: Path) -> None:
    folder = Folder(path)
    for index in range(10):
        folder.publish(str(index), b"x" * 1000)
        age(path / str(index), (20 - index) * DAY)
    assert folder.read("1") is not None, "this is a use"
    small = Folder(path, most_bytes=9000)
    assert small.publish("new", b"y" * 1000)
    assert names(path) == {"1", "6", "7", "8", "9", "new"}


def test_the_limit_holds_while_one_process_writes(path: Path) -> None:
    folder = Folder(path, most_bytes=50_000)
    for index in range(500):
        folder.publish(str(index), b"x" * 1000)
        age(path / str(index), 5000 - index)
    assert sum(file.stat().st_size for file in path.iterdir()) <= 50_000 * 17 / 16
    assert folder.read("499")
    assert not folder.has("0")


def test_files_of_writers_that_were_killed_are_removed(path: Path) -> None:
    path.mkdir(parents=True, mode=0o700)
    for name in (".old", ".new"):
        (path / name).write_bytes(CONTENT)
    age(path / ".old", 2 * HOUR)
    Folder(path).publish("a", CONTENT)
    assert names(path) == {"a", ".new"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv("CPURUNTIME_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("CPURUNTIME_CACHE_DIR", "{home}/mine", "mine/kernels"),
        ("XDG_CACHE_HOME", "{home}/xdg", "xdg/cpuruntime/kernels"),
        ("XDG_CACHE_HOME", "relative", ".cache/cpuruntime/kernels"),
        ("HOME", "{home}", ".cache/cpuruntime/kernels"),
    ],
)
def test_where_the_cache_is(
    environment: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(variable, value.format(home=environment))
    assert cache_folder.__wrapped__().path == environment / expected


def temporary(base: Path) -> Path:
    return base / "tmp" / f"cpuruntime-cache-{os.geteuid()}"


def test_a_user_without_a_home_caches_in_the_temporary_folder(
    environment: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def unknown(user: int) -> None:
        raise KeyError(user)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    folder = cache_folder.__wrapped__()
    assert folder.path == temporary(environment)
    assert mode(folder.path) == 0o700
    assert len(caplog.records) == 1
    assert "has no home folder; CPURUNTIME_CACHE_DIR can name another folder" in caplog.text


@pytest.mark.parametrize("damage", [lambda path: path.chmod(0o777), lambda path: path.rmdir() or path.write_text("")])
def test_instead_of_a_folder_that_cannot_be_used(
    environment: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    monkeypatch.setenv("CPURUNTIME_CACHE_DIR", str(environment))
    (environment / "kernels").mkdir(mode=0o700)
    assert callable(damage)
    damage(environment / "kernels")
    folder = cache_folder.__wrapped__()
    assert folder.publish("a", CONTENT) == CONTENT
    assert names(temporary(environment)) == {"a"}
    assert len(caplog.records) == 1
    assert f"and not in {environment}/kernels: " in caplog.text


def test_beside_a_folder_that_is_read_only(
    environment: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What a container brought in its read-only home is used; nothing more is written there."""
    first = cache_folder.__wrapped__()
    first.publish("a", CONTENT)
    monkeypatch.setattr(os, "access", lambda *arguments, **more: False)
    for _ in range(2):
        folder = cache_folder.__wrapped__()
        assert folder.has("a")
        assert folder.read("a") == CONTENT
        assert folder.publish("a", b"other") == CONTENT
        assert folder.publish("b", CONTENT) == CONTENT
        assert folder.read("b") == CONTENT
        assert not folder.has("c")
    assert first.path
    assert names(first.path) == {"a"}
    assert names(temporary(environment)) == {"b"}
    assert len(caplog.records) == 2, "one for each process"


def test_without_a_temporary_folder_nothing_is_cached(
    environment: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CPURUNTIME_CACHE_DIR", "/proc/none")
    temporary(environment).mkdir(mode=0o777)
    temporary(environment).chmod(0o777)
    assert caches_nothing(cache_folder.__wrapped__())
    assert len(caplog.records) == 2
