"""A state on disk: whatever happens to the file is noticed, and the one before it is used."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rookery.ring import StateDamaged, StateFile, StateFileError
from rookery.ring._snapshot import BESIDE, FileLock, Generations, Restored, pack, unpack
from rookery.ring._state_file import LONGEST_NAME, from_json, to_json

FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing can be forked off here")

PAYLOADS = st.binary(max_size=200)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda parts: st.lists(parts) | st.dictionaries(st.text(), parts),
)


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@st.composite
def damages(draw: st.DrawFn, contents: bytes) -> bytes:
    """The contents, cut off somewhere, or with another byte somewhere, or with more behind them."""
    where = draw(st.integers(0, len(contents) - 1))
    match draw(st.sampled_from(["cut", "flip", "more"])):
        case "cut":
            return contents[:where]
        case "flip":
            return contents[:where] + bytes([contents[where] ^ draw(st.integers(1, 255))]) + contents[where + 1 :]
        case _:
            return contents + draw(st.binary(min_size=1))


@given(PAYLOADS)
def test_what_was_packed_is_unpacked(payload: bytes) -> None:
    """Byte for byte."""
    assert unpack(pack(payload)) == payload


@given(st.data(), PAYLOADS, PAYLOADS)
def test_any_damage_is_noticed_and_the_state_before_it_is_used(data: st.DataObject, before: bytes, latest: bytes):
    """A file that is cut off anywhere, or has any byte changed, is not taken for a state."""
    with folder() as here:
        files = Generations(here / "state")
        files.write(before)
        files.write(latest)
        assert Generations(files.path).read() == Restored(latest, files.path)
        files.path.write_bytes(data.draw(damages(files.path.read_bytes())))
        found = Generations(files.path).read()
    assert (found.payload, found.source) == (before, files.previous)
    assert found.damage is not None
    assert str(files.path) in found.damage


@given(st.data(), st.lists(PAYLOADS, min_size=1, max_size=5))
def test_a_damaged_file_never_takes_the_place_of_the_good_one(data: st.DataObject, later: list[bytes]) -> None:
    """Not even when the next state is saved over it: of two files, at least one is good throughout."""
    with folder() as here:
        files = Generations(here / "state")
        files.write(b"good")
        files.write(b"latest")
        expected = b"good"
        for payload in later:
            files.path.write_bytes(data.draw(damages(files.path.read_bytes())))
            files = Generations(files.path)
            assert files.read().payload == expected
            files.write(payload)
            assert Generations(files.path).read() == Restored(payload, files.path)
            assert unpack(files.previous.read_bytes()) == expected


def test_the_reason_is_told() -> None:
    """What is wrong with a file, as far as can be known."""
    good = pack(b"0123456789")
    for contents, reason in {
        good[:-3]: "it is cut off: 7 of 10 bytes are there",
        good[:-1] + b"x": "its checksum is wrong",
        good.replace(b" 1 ", b" 2 ", 1): "its format is not known: it is damaged, or was written by a later version",
        b"": "it does not begin as a state file does",
        b'{"a": 1}': "it does not begin as a state file does",
    }.items():
        with pytest.raises(ValueError, match=reason):
            unpack(contents)


def test_where_there_is_nothing_nothing_is_restored(tmp_path: Path) -> None:
    """A first save that was torn is nothing: it had not been confirmed."""
    (tmp_path / "state.partial").write_bytes(pack(b"half")[:20])
    assert Generations(tmp_path / "state").read() == Restored()


def test_between_the_two_renames_the_previous_file_is_the_latest(tmp_path: Path) -> None:
    """As a process leaves it that is killed there."""
    files = Generations(tmp_path / "state")
    files.write(b"1")
    files.path.rename(files.previous)
    found = Generations(files.path).read()
    assert (found.payload, found.source, found.damage) == (b"1", files.previous, f"{files.path} is missing")


@pytest.mark.parametrize("previous", [None, b"", b"nonsense"])
@pytest.mark.parametrize("latest", [None, b"", b"nonsense"])
def test_where_there_is_nothing_good_both_files_are_named(
    tmp_path: Path, latest: bytes | None, previous: bytes | None
) -> None:
    """It never begins anew without a word."""
    files = Generations(tmp_path / "state")
    for path, contents in ((files.path, latest), (files.previous, previous)):
        if contents is not None:
            path.write_bytes(contents)
    if latest is None and previous is None:
        assert files.read() == Restored()
        return
    with pytest.raises(StateDamaged) as caught:
        files.read()
    assert str(files.path) in str(caught.value)
    assert files.previous.name in str(caught.value)
    assert "to begin anew, move" in str(caught.value)


def test_a_file_that_was_taken_away_meanwhile_is_written_again(tmp_path: Path) -> None:
    """By somebody who tidied up."""
    files = Generations(tmp_path / "state")
    files.write(b"1")
    files.path.unlink()
    files.write(b"2")
    assert Generations(files.path).read() == Restored(b"2", files.path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    """And nothing behind."""
    files = Generations(tmp_path / "state")
    files.write(b"1")
    files.write(b"2")
    partial = tmp_path / "state.partial"
    partial.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left"):
        files.write(b"3")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state", "state.previous"]
    assert (unpack(files.path.read_bytes()), unpack(files.previous.read_bytes())) == (b"2", b"1")
    files.write(b"4")
    assert (unpack(files.path.read_bytes()), unpack(files.previous.read_bytes())) == (b"4", b"2")


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    """Who has it and who wants it are both named; once it is given back, it can be had."""
    first = FileLock(tmp_path / "state", "the kernel 'a'")
    with pytest.raises(StateFileError) as caught:
        FileLock(tmp_path / "state", "the kernel 'b'")
    assert "the kernel 'b' cannot keep its state" in str(caught.value)
    assert "the kernel 'a' keeps it there" in str(caught.value)
    first.release()
    first.release()
    FileLock(tmp_path / "state", "the kernel 'b'").release()


@FORKS
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_lock_is_given_back_also_where_a_process_was_forked_off(tmp_path: Path) -> None:
    """That has it too, and goes on for long; when it gives it back, that is of no importance."""
    held = FileLock(tmp_path / "state", "a")
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(tell)
        os.read(told, 1)  # until the other process is through, or dead
        os._exit(0)
    try:
        held.release()
        FileLock(tmp_path / "state", "b").release()
    finally:
        os.write(tell, b"!")
        os.waitpid(pid, 0)
        os.close(told)
        os.close(tell)


@FORKS
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_process_that_was_forked_off_does_not_give_a_lock_back(tmp_path: Path) -> None:
    """It is its parent's."""
    held = FileLock(tmp_path / "state", "a")
    pid = os.fork()
    if pid == 0:
        held.release()
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(StateFileError):
        FileLock(tmp_path / "state", "b")
    held.release()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="nothing shows the open descriptors")
def test_a_lock_that_cannot_be_had_leaves_no_file_open(tmp_path: Path) -> None:
    """However often it is tried."""
    held = FileLock(tmp_path / "state", "a")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(StateFileError):
            FileLock(tmp_path / "state", "b")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    held.release()


# ---- JSON


@given(JSON)
def test_json_gives_back_what_it_accepts(state: object) -> None:
    """Or it does not accept it."""
    assert from_json(to_json(state)) == state


@pytest.mark.parametrize("state", [(1, 2), {1: "one"}, {"a": (1,)}, {"a": {1}}, object(), b"bytes"])
def test_json_refuses_what_it_would_give_back_as_something_else(state: object) -> None:
    """Tuples would come back as lists, and keys as strings."""
    with pytest.raises(TypeError):
        to_json(state)


# ---- the option


@pytest.mark.parametrize("path", ["", ".", "/", 5, None, b"state"])
def test_a_path_that_names_no_file_is_refused(path: object) -> None:
    """With the line to write instead."""
    with pytest.raises(ValueError, match=r"StateFile\(\"state/\{kernel_id\}.json\", every=30\)"):
        StateFile(path)  # type: ignore[arg-type]


@pytest.mark.parametrize("every", [0, -1, float("nan"), "5", True])
def test_an_interval_is_positive(every: object) -> None:
    """Infinity is allowed, and means: at the end only."""
    assert not StateFile("state", every=float("inf")).is_periodic
    with pytest.raises(ValueError, match="every is in seconds, more than 0"):
        StateFile("state", every=every)  # type: ignore[arg-type]


def test_functions_are_functions() -> None:
    """Named, if they are not."""
    with pytest.raises(TypeError, match="initial is a function, got 5"):
        StateFile("state", initial=5)  # type: ignore[arg-type]


def test_each_kernel_can_have_a_file_of_its_own(tmp_path: Path) -> None:
    """By its id, which is part of the path."""
    assert StateFile(tmp_path / "{kernel_id}.json").of("a b") == tmp_path.resolve() / "a b.json"


@pytest.mark.parametrize("end", BESIDE)
def test_a_state_file_is_not_one_of_those_beside_another(tmp_path: Path, end: str) -> None:
    """The id of one kernel would make its file another's; also where a link leads there."""
    with pytest.raises(ValueError, match=f"does not end in .*{end}"):
        StateFile(tmp_path / "{kernel_id}").of(f"a{end}")
    (tmp_path / "b").symlink_to(tmp_path / f"a{end}")
    with pytest.raises(ValueError, match=f"does not end in .*{end}"):
        StateFile(tmp_path / "{kernel_id}").of("b")
    StateFile(tmp_path / "{kernel_id}.json").of(f"a{end}")


def test_the_longest_name_of_a_state_file_leaves_room_for_those_beside_it(tmp_path: Path) -> None:
    """Each of them can be made."""
    file = StateFile(tmp_path / "{kernel_id}")
    path = file.of("ä" * (LONGEST_NAME // 2))
    lock, files = FileLock(path, "a"), Generations(path)
    for payload in (b"1", b"2"):
        files.write(payload)
    lock.release()
    assert unpack(files.previous.read_bytes()) == b"1"
    with pytest.raises(ValueError, match=f"up to {LONGEST_NAME} bytes"):
        file.of("ä" * (LONGEST_NAME // 2 + 1))
