"""The ledger of pinned processors: the choice, and its folder. For processes see test_pinned_processors.py."""

from __future__ import annotations

import fcntl
import os
import random
import threading
from pathlib import Path

import pytest
from support.users import OTHER, run_script, two_users

from cpuruntime.errors import DeviceUnavailableError
from cpuruntime.host import ledger
from cpuruntime.host.assignment import Holder, assign
from cpuruntime.host.assignment import ProcessorRequest as Wanted
from cpuruntime.host.cgroup import Quota
from cpuruntime.host.ledger import Lease, Ledger


def held(pid: int, *cpus: int, exclusive: bool = False) -> Holder:
    return Holder(pid, "m", cpus, exclusive)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


def take(folder: Path, *candidates: int, count: int = 1, exclusive: bool = False) -> Lease:
    with Ledger(folder).open() as snapshot:
        return snapshot.lease([Wanted(candidates, count)], "m", exclusive)


def test_a_free_machine_gets_the_plan() -> None:
    chosen = assign([Wanted((4, 0, 2), 1), Wanted((0, 4, 2), 2)])
    assert (chosen.cpus, chosen.reasons) == (((4,), (0, 2)), ())


def test_the_least_leased_processor_comes_first_then_the_order_of_the_plan() -> None:
    chosen = assign([Wanted((0, 1, 2, 3), 2)], [held(7, 0), held(8, 0, 2)])
    assert chosen.cpus == ((1, 3),)
    assert chosen.reasons == ("CPU 0 is pinned by process 7 (model 'm'), process 8 (model 'm'); taking 3 instead",)


def test_what_cannot_be_avoided_is_shared_and_said() -> None:
    chosen = assign([Wanted((0, 1), 2)], [held(7, 0)])
    assert chosen.cpus == ((0, 1),)
    assert chosen.reasons == (
        "CPU 0 is shared with process 7 (model 'm'): no other allowed processor has fewer threads",
    )
    assert assign([Wanted((0, 1), 1)], [held(7, 0), held(7, 0, 1)]).cpus == ((1,),)


def test_this_process_is_called_so() -> None:
    assert str(Holder(os.getpid(), "", (0,))) == "this process"
    assert str(Holder(1, "", (0,))) == "process 1"


def test_a_sibling_of_a_leased_processor_comes_after_idle_cores() -> None:
    cores = {0: 0, 1: 1, 2: 0, 3: 1}
    assert assign([Wanted((0, 1, 2, 3), 1)], [held(7, 0)], cores=cores).cpus == ((1,),)
    assert assign([Wanted((0, 2, 1, 3), 1)], [held(7, 0)], cores=cores).cpus == ((1,),)
    assert assign([Wanted((0, 1, 2, 3), 3)], [held(7, 0)], cores=cores).cpus == ((1, 2, 3),)
    assert assign([Wanted((0, 1, 2, 3), 2)], [held(7, 0, 1)], cores=cores).cpus == ((2, 3),)
    # one of its own streams counts as well
    assert assign([Wanted((0, 2, 1, 3), 1), Wanted((0, 2, 1, 3), 1)], cores=cores).cpus == ((0,), (1,))


def test_no_choice_is_better_than_the_one_made() -> None:
    chance = random.Random(3)
    for _ in range(500):
        cpus = chance.sample(range(16), chance.randint(1, 12))
        holders = [held(pid, *chance.sample(range(16), chance.randint(1, 6))) for pid in range(chance.randint(0, 5))]
        requests, left = [], len(cpus)
        while left and len(requests) < 4:
            requests.append(Wanted(tuple(chance.sample(cpus, len(cpus))), chance.randint(1, left)))
            left -= requests[-1].count
        shares = assign(requests, holders).cpus
        assert [len(share) for share in shares] == [request.count for request in requests]
        taken = {cpu for share in shares for cpu in share}
        assert len(taken) == sum(map(len, shares))
        users = {cpu: sum(cpu in holder.cpus for holder in holders) for cpu in cpus}
        others = [users[cpu] for cpu in cpus if cpu not in taken]
        assert not others or max(users[cpu] for cpu in taken) <= min(others)


def test_reserved_processors_are_not_given_to_anybody() -> None:
    holders = [held(7, 0, exclusive=True)]
    assert assign([Wanted((0, 1), 1)], holders).cpus == ((1,),)
    with pytest.raises(DeviceUnavailableError, match=r"2 of .* 0-1 .* 1 can be had: CPU 0 is reserved by process 7"):
        assign([Wanted((0, 1), 2)], holders)


def test_a_reservation_takes_only_what_nobody_has() -> None:
    assert assign([Wanted((0, 1, 2), 2)], [held(7, 1)], exclusive=True).cpus == ((0, 2),)
    with pytest.raises(DeviceUnavailableError, match=r"CPU 1 is pinned by process 7.* without ENABLE_CPU_RESERVATION"):
        assign([Wanted((0, 1), 1), Wanted((0, 1), 1)], [held(7, 1)], exclusive=True)


def test_no_more_processors_are_leased_than_the_quota_allows() -> None:
    own = Holder(7, "m", (1,), is_own=True)
    chosen = assign([Wanted((0, 1, 2), 1)], [own], quota=Quota(1))
    assert chosen.cpus == ((1,),)
    assert chosen.reasons == (
        "CPU 1 is shared with process 7 (model 'm'): models use no more processors than the control group's CPU quota "
        "allows",
    )
    assert assign([Wanted((0, 1, 2), 1)], [own], quota=Quota(2)).cpus == ((0,),), "one more may be busy"
    assert assign([Wanted((0, 1, 2), 1)], [own]).cpus == ((0,),)
    assert assign([Wanted((0, 1, 2), 1)], [held(7, 1)], quota=Quota(1)).cpus == ((0,),), "a process of another group"
    assert assign([Wanted((1, 0, 2), 1), Wanted((1, 0, 2), 1)], [own], quota=Quota(2)).cpus == ((0,), (1,))
    assert assign([Wanted((0, 1, 2, 3), 3)], [own], quota=Quota(3)).cpus == ((0, 1, 2),)


def test_the_quota_is_that_of_a_group_of_processes() -> None:
    def lease(*cpus: int, group: int) -> Holder:
        return Holder(7, "m", cpus, group=group)

    assert assign([Wanted((0, 1), 1)], [lease(1, group=5)], quota=Quota(1, 5)).cpus == ((1,),)
    assert assign([Wanted((0, 1), 1)], [lease(1, group=6)], quota=Quota(1, 5)).cpus == ((0,),)
    assert assign([Wanted((0, 1), 1)], [lease(1, group=0)], quota=Quota(1, 0)).cpus == ((0,),), "not known"


def test_what_the_quota_cannot_hold_is_said() -> None:
    own = Holder(7, "m", (0,), is_own=True)
    for chosen in (
        assign([Wanted((1, 2), 1)], [own], quota=Quota(1)),
        assign([Wanted((0, 1), 1)], [own], exclusive=True, quota=Quota(1)),
    ):
        assert chosen.cpus == ((1,),)
        assert chosen.reasons[-1] == "models have 2 processors, more than the control group's CPU quota allows"


def test_no_choice_goes_beyond_the_quota_or_takes_more_than_it_must() -> None:
    chance = random.Random(5)
    for _ in range(500):
        cpus = chance.sample(range(12), chance.randint(2, 12))
        number = chance.randint(1, len(cpus))
        holders = [Holder(1, "", tuple(chance.sample(cpus, chance.randint(1, number))), is_own=True)]
        holders += [held(2, *chance.sample(cpus, chance.randint(1, 2))) for _ in range(chance.randint(0, 3))]
        requests, left = [], number
        while left:
            requests.append(Wanted(tuple(chance.sample(cpus, len(cpus))), chance.randint(1, left)))
            left -= requests[-1].count
        chosen = assign(requests, holders, quota=Quota(number))
        taken = {cpu for share in chosen.cpus for cpu in share}
        assert len(taken) == number
        assert len(taken | set(holders[0].cpus)) == number
        assert not any("more than the control" in reason for reason in chosen.reasons)


def test_streams_that_keep_off_each_other_s_cores_say_so() -> None:
    chosen = assign([Wanted((0, 1), 1), Wanted((2, 1), 1)], cores={0: 0, 1: 1, 2: 0})
    assert chosen.cpus == ((0,), (1,))
    assert chosen.reasons == ("CPU 1 is taken instead of 2: their cores have fewer threads of this model",)


def test_leases_are_seen_and_given_back(folder: Path) -> None:
    first, second = take(folder, 0, 1), take(folder, 0, 1)
    assert (first.cpus, second.cpus) == (((0,),), ((1,),))
    assert {h.key: (h.pid, h.name, h.cpus) for h in Ledger(folder).holders()} == {
        lease.holder.key: (os.getpid(), "m", lease.holder.cpus) for lease in (first, second)
    }
    assert [holder.is_own for holder in Ledger(folder).holders()] == [True, True]
    first.release()
    first.release()
    assert not first.is_held
    assert take(folder, 0, 1).cpus == ((0,),)  # and dropped
    assert [holder.cpus for holder in Ledger(folder).holders()] == [(1,)]
    second.release()
    assert os.listdir(folder) == ["lock"]
    assert folder.stat().st_mode & 0o777 == 0o700


def test_threads_that_choose_at_the_same_time_choose_differently(folder: Path) -> None:
    leases: list[Lease] = []
    meeting = threading.Barrier(8)

    def work() -> None:
        meeting.wait()
        for _ in range(4):
            leases.append(take(folder, *range(32)))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(lease.cpus[0][0] for lease in leases) == list(range(32))


def test_the_lease_survives_what_was_written_by_nobody(folder: Path) -> None:
    lease = take(folder, 0, 1)
    machine = lease.holder.key.split("-")[0]
    (folder / f"{machine}-1-dead").write_text('{"pid": 1, "name": "", "cpus": [1], "exclusive": true}')
    (folder / "0123-1-another").write_text("of another kernel")
    with open(folder / f"{machine}-1-odd", "w") as odd:
        fcntl.flock(odd, fcntl.LOCK_EX)
        odd.write('{"pid": "?"}')
        odd.flush()
        assert Ledger(folder).holders() == [lease.holder]
    assert Ledger(folder).holders() == [lease.holder]
    assert sorted(os.listdir(folder)) == sorted(["0123-1-another", lease.holder.key, "lock"])


def alone(folder: Path) -> str:
    """What is said when the folder cannot be used; leases of this process still avoid each other."""
    with Ledger(folder).open() as snapshot:
        offset = 1000 + len(snapshot.holders)  # other tests may hold leases
    first, second = take(folder, offset, offset + 1), take(folder, offset, offset + 1)
    assert (first.cpus, second.cpus) == (((offset,),), ((offset + 1,),))
    first.release()
    assert take(folder, offset, offset + 1).cpus == ((offset,),)
    remedy = "; CPURUNTIME_LEDGER_DIR can name a folder for the leases of this user's processes"
    with pytest.raises(DeviceUnavailableError, match=f"^ENABLE_CPU_RESERVATION needs a folder .*{remedy}\\.$"):
        take(folder, 2000, exclusive=True)
    said = second.reasons[-1]
    assert said.startswith("processors that other processes have pinned are not known: ")
    assert said.endswith(remedy), "at 53c12cb, it did not say how to go on"
    return said


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot be used: Not a directory" in alone(tmp_path / "file")
    assert "cannot be used: Not a directory" in alone(tmp_path / "file" / "below")


def test_a_folder_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(ledger, "open_in", refuse)
    assert f"{folder} cannot be used: Permission denied" in alone(folder)


def test_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger.json, "dumps", refuse)
    assert f"{folder} cannot be written: No space left on device" in take(folder, 0).reasons[-1]
    assert os.listdir(folder) == ["lock"]


def test_a_symbolic_link_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(0o700)
    folder.symlink_to(tmp_path / "elsewhere")
    assert "cannot be used: Not a directory" in alone(folder)
    assert not os.listdir(tmp_path / "elsewhere")


def test_another_users_folder_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(0o700)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert f"{folder} cannot be used: it belongs to user {owner}, not to {owner + 1}" in alone(folder)
    assert not os.listdir(folder)


def test_a_folder_that_others_can_write_is_refused(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o770)
    assert "cannot be used: other users can write to it" in alone(folder)
    assert not os.listdir(folder)


def test_a_lock_behind_a_symbolic_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    folder.mkdir(0o700)
    (folder / "lock").symlink_to(tmp_path / "target")
    assert "cannot be used: Too many levels" in alone(folder)
    assert not (tmp_path / "target").exists()


def test_a_process_that_never_ends_choosing_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "PATIENCE", 0)
    folder.mkdir(0o700)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "has been locked by another process" in alone(folder)
    assert take(folder, 0).reasons == ()


@pytest.mark.parametrize("has_session", [False, True])
def test_the_folder_of_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch, has_session: bool) -> None:
    """It does not depend on XDG_RUNTIME_DIR: a service, which does not have it, and a shell see each other."""
    monkeypatch.setattr(Path, "exists", lambda path: has_session)
    monkeypatch.setenv("CPURUNTIME_LEDGER_DIR", str(folder))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "session"))
    assert Ledger().folders == (folder,)
    monkeypatch.delenv("CPURUNTIME_LEDGER_DIR")
    user = os.geteuid()
    folders = Path(f"/tmp/cpuruntime-{user}"), Path(f"/run/user/{user}/cpuruntime")
    assert Ledger().folders == folders[: 1 + has_session]


@two_users
def test_another_user_who_took_the_name_stops_nothing(folder: Path, tmp_path: Path) -> None:
    """At 53c12cb, whoever made /tmp/cpuruntime-UID first denied the ledger and ENABLE_CPU_RESERVATION for good."""
    folder.mkdir(0o700)
    os.chown(folder, OTHER, -1)
    second = tmp_path / "session" / "cpuruntime"
    second.parent.mkdir()
    with Ledger(folder, second).open() as snapshot:
        lease = snapshot.lease([Wanted((0,), 1)], "m", exclusive=True)
    assert Ledger(second).holders() == [lease.holder]
    problem = f"{folder} cannot be used: it belongs to user {OTHER}, not to 0"
    assert lease.reasons == (f"only processes that use {second} are known, since {problem}",)
    folder.rmdir()
    with Ledger(folder, second).open() as snapshot:
        assert snapshot.problem == ""


@two_users
def test_the_name_in_tmp_is_taken() -> None:
    """By the true path; this user has no folder under /run/user."""
    taken = Path(f"/tmp/cpuruntime-{OTHER}")
    taken.mkdir(0o777)
    try:
        script = f"become({OTHER})\nwith Ledger().open() as snapshot: print(snapshot.problem)"
        assert run_script(script) == [f"{taken} cannot be used: it belongs to user 0, not to {OTHER}"]
        assert not os.listdir(taken)
    finally:
        taken.rmdir()


def test_a_relative_folder_is_that_of_its_first_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("CPURUNTIME_LEDGER_DIR", f"ledger-{tmp_path.name}")
    monkeypatch.chdir(tmp_path)
    with Ledger().open() as snapshot:
        lease = snapshot.lease([Wanted((0,), 1)])
    monkeypatch.chdir(tmp_path / "other")
    assert Ledger().holders() == [lease.holder]
    lease.release()
    assert not os.listdir(tmp_path / "other")


def test_a_lease_is_removed_where_it_was_made(folder: Path, tmp_path: Path) -> None:
    """At 53c12cb, it was removed by its path, after another folder had taken that."""
    lease = take(folder, 0)
    folder.rename(tmp_path / "old")
    folder.mkdir()
    (folder / lease.holder.key).write_text("of another")
    lease.release()
    assert os.listdir(folder) == [lease.holder.key]
    assert os.listdir(tmp_path / "old") == ["lock"]


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "7", '"text"', "null", "\0", "\x80", "[" * 100_000, "9" * 5000, "{}",
        '{"pid": 1e999, "name": "", "cpus": [0], "exclusive": false}',
        '{"pid": 1, "name": "", "cpus": [1e999], "exclusive": false}',
        '{"pid": 1, "name": "", "cpus": 0, "exclusive": false}',
        '{"pid": null, "name": "", "cpus": [NaN], "exclusive": false}',
        '[{"pid": 1, "name": "", "cpus": [0], "exclusive": false}]',
    ],
)  # fmt: skip
def test_malformed_leases_are_ignored(folder: Path, text: str) -> None:
    """At 53c12cb, an infinite number, a list and deep nesting raised."""
    lease = take(folder, 0)
    name = folder / lease.holder.key.replace("-", "-1", 1)
    with open(os.open(name, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as odd:
        fcntl.flock(odd, fcntl.LOCK_EX)
        odd.write(text.encode("latin-1"))
        odd.flush()
        assert Ledger(folder).holders() == [lease.holder]
        odd.truncate(2**40)
        assert Ledger(folder).holders() == [lease.holder], "at 53c12cb, it was read without limit"


def test_a_long_name_does_not_hide_a_lease(folder: Path) -> None:
    with Ledger(folder).open() as snapshot:
        lease = snapshot.lease([Wanted((0,), 1)], "\u2028" * ledger.MOST_BYTES)
    assert [holder.cpus for holder in Ledger(folder).holders()] == [(0,)]
    assert lease.is_held
