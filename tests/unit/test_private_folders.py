"""What another user can do to our folders, and which variables of the environment count. Kernels: test_kernel_cache."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.users import OTHER, ROOT, run_script, two_users

from cpuruntime.compiler import isa
from cpuruntime.host.ledger import default_folders
from cpuruntime.properties import PROPERTIES, from_environment
from cpuruntime.store import Folder, PrivateFolder, cache_folder, trusted_environment
from cpuruntime.store.environment import is_environment_trusted

CACHE = Path(".cache/cpuruntime/kernels")


def test_only_one_module_reads_the_environment() -> None:
    readers = re.compile(r"\bos\.(environ|getenv|path\.expand)|Path\.home|expanduser")
    found = [str(path) for path in (ROOT / "cpuruntime").rglob("*.py") if readers.search(path.read_text())]
    assert found == [str(ROOT / "cpuruntime/store/environment.py")]


@pytest.mark.parametrize("function", ["geteuid", "getegid"])
def test_the_environment_of_another_user_is_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, function: str
) -> None:
    """At 53c12cb, variables of the real user named what the effective user loaded and wrote."""
    for name, value in {"CACHE_DIR": tmp_path, "LEDGER_DIR": tmp_path, "ISA": "no set", "NUM_STREAMS": "7"}.items():
        monkeypatch.setenv(f"CPURUNTIME_{name}", str(value))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_folders() == (tmp_path,)
    number = getattr(os, function)() + 1
    monkeypatch.setattr(os, function, lambda: number)
    monkeypatch.setattr("pwd.getpwuid", lambda user: [][user])
    assert trusted_environment() == {}
    assert default_folders()[0] == Path(f"/tmp/cpuruntime-{os.geteuid()}")
    assert isa.current.__wrapped__() == isa.supported()[0]
    assert from_environment(PROPERTIES) == {}
    with pytest.raises(IndexError):
        cache_folder.__wrapped__()
    assert not os.listdir(tmp_path)


@two_users
def test_rights_of_another_user_come_with_the_home_of_that_user(tmp_path: Path) -> None:
    """At 53c12cb, an object in a folder of the real user ran with effective uid 0."""
    folders = {name: tmp_path / name for name in ("named", "caches", "home", "passwd")}
    for folder in (*folders.values(), folders["named"] / "kernels"):
        folder.mkdir(mode=0o700)
        os.chown(folder, OTHER, -1)
    os.chown(folders["passwd"], 0, -1)
    script = """
import pwd
from types import SimpleNamespace
become(0, real=int(sys.argv[2]))
pwd.getpwuid = lambda user: {0: SimpleNamespace(pw_dir=sys.argv[1])}[user]
print(cache_folder().path)
cache_folder.__wrapped__()
"""
    variables = {"CPURUNTIME_CACHE_DIR": folders["named"], "XDG_CACHE_HOME": folders["caches"], "HOME": folders["home"]}
    said, path = run_script(script, folders["passwd"], OTHER, **{name: str(f) for name, f in variables.items()})
    assert Path(path) == folders["passwd"] / CACHE
    assert "the environment is ignored" in said, "once"
    assert [os.listdir(folders[name]) for name in ("caches", "home")] == [[], []]


def test_the_kernel_s_word_on_rights_counts_where_the_ids_agree(tmp_path: Path) -> None:
    """At 53c12cb, AT_SECURE, which a program with file capabilities has, too, was not looked at."""
    groups = {*os.getgroups(), *([OTHER] if os.geteuid() == 0 else [])} - {os.getegid()}
    if not groups:
        pytest.skip("needs a second group")
    program = tmp_path / "python"
    shutil.copy(Path(sys.executable).resolve(), program)
    os.chown(program, -1, min(groups))
    program.chmod(0o2755)
    script = "import os; before = os.getegid(); os.setresgid(*3 * [os.getgid()]); print(before != os.getegid())\n"
    variables = {**os.environ, "PYTHONHOME": sys.base_prefix, "PYTHONPATH": str(ROOT)}

    def run(script: str) -> str:
        command = [program, "-c", script]
        return subprocess.run(command, capture_output=True, text=True, env=variables, check=False).stdout

    if run(script) != "True\n":
        pytest.skip("a copy of the interpreter that sets the group does not run here")
    script += "from cpuruntime.store.environment import is_environment_trusted; print(is_environment_trusted())"
    assert run(script) == "True\nFalse\n"
    assert is_environment_trusted()


@two_users
@pytest.mark.parametrize(("variable", "below"), [("HOME", ".cache"), ("XDG_CACHE_HOME", "")])
def test_nothing_is_made_in_the_home_of_another_user(tmp_path: Path, variable: str, below: str) -> None:
    """At 53c12cb, root under sudo with HOME kept made folders in the user's home, and his own cache was refused."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chown(home, OTHER, -1)
    script = "print(cache_folder().path)"
    said, path = run_script(script, **{variable: str(home), "TMPDIR": str(tmp_path)})
    assert path == str(tmp_path / "cpuruntime-cache-0")
    assert f": {home} belongs to user {OTHER}, not to 0; CPURUNTIME_CACHE_DIR can" in said
    assert not os.listdir(home)
    (home / below / "cpuruntime/kernels").mkdir(parents=True, mode=0o700)
    assert run_script(script, **{variable: str(home)}) == [str(home / below / "cpuruntime/kernels")]


@two_users
def test_a_user_without_a_home_caches_in_the_temporary_folder(tmp_path: Path) -> None:
    """At 53c12cb, RuntimeError: could not determine home directory."""
    script = f"""
with tempfile.TemporaryDirectory() as base:
    os.chown(base, {OTHER}, -1)
    os.environ["TMPDIR"] = base
    become({OTHER})
    print(cache_folder().path, cache_folder().publish("a", b"x"), Ledger().holders(), os.listdir(base))
"""
    said, found = run_script(script, CPURUNTIME_LEDGER_DIR=str(tmp_path / "missing"))
    assert found.endswith(f"/cpuruntime-cache-{OTHER} b'x' [] ['cpuruntime-cache-{OTHER}']")
    assert f": user {OTHER} has no home folder; CPURUNTIME_CACHE_DIR can" in said


@two_users
def test_a_user_who_is_not_root_reads_what_he_wrote_whatever_the_umask() -> None:
    """A umask of 0777 leaves no rights to the owner of a folder, unless it is root."""
    script = f"""
become({OTHER})
with tempfile.TemporaryDirectory() as base:
    os.umask(0o777)
    folder = Path(base, "a", "b")
    print(Folder(folder).publish("c", b"x"), Folder(folder).read("c"))
"""
    assert run_script(script) == ["b'x' b'x'"]


@pytest.mark.parametrize("umask", [0, 0o777])
def test_folders_and_files_are_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """At 53c12cb, with umask 0, ~/.cache and ~/.cache/cpuruntime came out with mode 0777."""
    before = os.umask(umask)
    try:
        Folder(tmp_path / "a" / "b").publish("c", b"x")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/c")]
    assert modes == [0o700, 0o700, 0o600]


def test_a_link_above_the_folder_is_followed_once(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    (tmp_path / "link").symlink_to("first")
    folder = Folder(tmp_path / "link" / "a")
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("second")
    folder.publish("b", b"x")
    assert os.listdir(tmp_path / "first" / "a") == ["b"]
    assert not os.listdir(tmp_path / "second")


def test_a_link_that_leads_nowhere_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(NotADirectoryError):
        PrivateFolder(tmp_path / "link" / "a")
    assert os.listdir(tmp_path) == ["link"]


def test_a_folder_that_is_removed_caches_nothing(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "a")
    folder.publish("b", b"x")
    shutil.rmtree(tmp_path / "a")
    assert (folder.publish("b", b"y"), folder.read("b"), folder.has("b")) == (b"y", None, False)
    folder.write_text("c", "text")
    folder.remove("b")
    assert not os.listdir(tmp_path)


def test_without_a_working_folder_the_temporary_one_is_used(tmp_path: Path) -> None:
    script = """
os.rmdir(os.getcwd())
print(cache_folder().path, Ledger().holders())
"""
    (tmp_path / "gone").mkdir()
    variables = {"CPURUNTIME_CACHE_DIR": "c", "CPURUNTIME_LEDGER_DIR": "l", "TMPDIR": str(tmp_path)}
    said, found = run_script(script, folder=tmp_path / "gone", **variables)
    assert found == f"{tmp_path}/cpuruntime-cache-{os.geteuid()} []"
    assert "and not in c/kernels: " in said


def test_a_disk_without_space(tmp_path: Path) -> None:
    script = """
import resource
folder = Folder(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
print(folder.publish("a", b"x" * 1000) == b"x" * 1000, folder.read("a"), os.listdir(sys.argv[1]))
"""
    said, found = run_script(script, tmp_path / "a")
    assert found == "True None []"
    assert "a could not be written" in said


def test_files_that_cannot_be_marked_as_used_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a read-only file system: what lay there for a day was compiled anew by every process."""
    folder = Folder(tmp_path / "a")
    folder.publish("b", b"x")
    os.utime(tmp_path / "a" / "b", (0, 0))

    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "utime", refuse)
    assert folder.read("b") == b"x"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_only_regular_files_are_opened(tmp_path: Path, make: Callable[[Path], None]) -> None:
    folder = PrivateFolder(tmp_path / "a")
    make(tmp_path / "a" / "b")
    before = os.listdir("/proc/self/fd")
    for flags in (os.O_RDONLY, os.O_RDWR | os.O_CREAT):
        with pytest.raises(OSError, match=r"not a regular file|Is a directory|Too many levels"):
            folder.open_file("b", flags)
    assert len(os.listdir("/proc/self/fd")) == len(before)
