"""When to restart, how soon, when to give up."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rookery._model.restart import Backoff, Intensity, Restart, RestartWindow

# Whole numbers, so that a crash can lie exactly at the edge of the window.
times = st.lists(st.integers(0, 60), max_size=30).map(sorted)
chances = st.floats(0, 1)
backoffs = st.builds(
    Backoff,
    st.just(0.0) | st.floats(1e-6, 10),
    maximum=st.floats(0, 100),
    factor=st.floats(1, 10),
    jitter=st.floats(0, 1),
)


@pytest.mark.parametrize(
    ("restart", "after_return", "after_crash"),
    [(Restart.PERMANENT, True, True), (Restart.TRANSIENT, False, True), (Restart.TEMPORARY, False, False)],
)
def test_restart_types(restart: Restart, after_return: bool, after_crash: bool) -> None:
    """PERMANENT comes back always, TRANSIENT after a crash, TEMPORARY never."""
    assert after_return == restart.applies(crashed=False)
    assert after_crash == restart.applies(crashed=True)


@given(times, st.integers(0, 5), st.integers(1, 20))
def test_the_window_tolerates_what_a_naive_count_tolerates(moments: list[int], limit: int, per: int) -> None:
    """A restart is too many exactly when those within the last ``per`` seconds, it included, exceed the limit."""
    window = RestartWindow(Intensity(limit, per=per))
    for number, now in enumerate(moments):
        recent = [moment for moment in moments[: number + 1] if moment >= now - per]
        assert (len(recent) <= limit) == window.record(now, ValueError(number))


@given(times, st.integers(1, 20), st.data())
def test_the_window_keeps_the_crashes_in_it(moments: list[int], per: int, data: st.DataObject) -> None:
    """The cause of giving up shows the crashes within the window, oldest first, and no mere returns."""
    window = RestartWindow(Intensity(1000, per=per))
    history: list[tuple[int, Exception | None]] = []
    for number, now in enumerate(moments):
        crash = ValueError(number) if data.draw(st.booleans()) else None
        history.append((now, crash))
        window.record(now, crash)
        expected = [crash for moment, crash in history if moment >= now - per and crash is not None]
        assert expected == window.crashes


def test_three_are_tolerated_and_the_fourth_is_too_many() -> None:
    """``Intensity(3, per=5)`` gives up when restarts exceed three, as Erlang does."""
    window = RestartWindow(Intensity(3, per=5.0))
    assert [window.record(0.0, None) for _ in range(4)] == [True, True, True, False]


def test_no_restart_is_tolerated_by_zero() -> None:
    """``Intensity(0, ...)`` gives up at the first."""
    assert not RestartWindow(Intensity(0, per=1.0)).record(0.0, None)


@given(backoffs, st.integers(0, 5000), chances)
@example(Backoff(0.0), 5000, 0.5)  # zero does not grow, however often
@example(Backoff(1.0, factor=10.0), 5000, 0.5)  # more than a float can hold
def test_a_delay_is_capped_and_jittered(backoff: Backoff, restarts: int, chance: float) -> None:
    """A delay lies within the jitter around ``initial * factor ** n`` or the cap, whichever is less."""
    grown = 0.0 if backoff.initial == 0 else backoff.initial * min(_power(backoff.factor, restarts), 1e300)
    plain = min(grown, backoff.maximum)
    delay = backoff.delay(restarts, chance)
    assert plain * (1 - backoff.jitter) * (1 - 1e-9) <= delay <= plain * (1 + backoff.jitter) * (1 + 1e-9)


@given(backoffs, st.integers(0, 200))
def test_delays_grow(backoff: Backoff, restarts: int) -> None:
    """With the same luck, a later delay is never shorter, and more luck makes it never shorter either."""
    assert backoff.delay(restarts, 0.5) <= backoff.delay(restarts + 1, 0.5)
    assert backoff.delay(restarts, 0.2) <= backoff.delay(restarts, 0.8)


def test_the_defaults_of_a_backoff() -> None:
    """What the documentation says they are; all but the first delay are given by name."""
    assert Backoff(1.0) == Backoff(1.0, maximum=60.0, factor=2.0, jitter=0.1, reset_after=60.0)
    with pytest.raises(TypeError, match="positional"):
        Backoff(1.0, 60.0)  # type: ignore[misc]


def test_a_backoff_by_hand() -> None:
    """The delays of the defaults, without and with the extremes of jitter."""
    backoff = Backoff(1.0)
    assert [backoff.delay(n, 0.5) for n in range(8)] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert pytest.approx([backoff.delay(0, 0.0), backoff.delay(0, 1.0)]) == [0.9, 1.1]


def test_edges_are_allowed() -> None:
    """Each bound that is said to be one may be reached."""
    Intensity(0, per=1e-9)
    Backoff(0, maximum=0, factor=1, jitter=0, reset_after=1e-9)
    Backoff(0, jitter=1)


def test_how_often_and_how_soon_stand() -> None:
    """One backoff or intensity may be shared by many."""
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Intensity(3, per=5.0).per = 6.0  # type: ignore[misc]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Backoff(1.0).initial = 2.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("cls", "first", "named"),
    [
        (Intensity, -1, {"per": 5.0}),
        (Intensity, 3, {"per": 0.0}),
        (Intensity, 3, {"per": math.nan}),
        (Backoff, -0.5, {}),
        (Backoff, 1.0, {"maximum": -2.0}),
        (Backoff, 1.0, {"factor": 0.5}),
        (Backoff, 1.0, {"jitter": 1.5}),
        (Backoff, 1.0, {"jitter": -0.5}),
        (Backoff, 1.0, {"reset_after": 0.0}),
    ],
)
def test_values_out_of_range_are_refused(cls: Any, first: float, named: dict[str, float]) -> None:
    """Each is a `ValueError` that shows the value."""
    wrong = first if first < 0 else next(iter(named.values()))
    with pytest.raises(ValueError, match=str(wrong)):
        cls(first, **named)


@pytest.mark.parametrize(
    ("make", "error", "expected"),
    [
        (
            lambda: Intensity("x", per=5),
            TypeError,
            "Intensity: max_restarts must be a whole number, 0 or more, got 'x'",
        ),
        (
            lambda: Intensity(True, per=5),
            TypeError,
            "Intensity: max_restarts must be a whole number, 0 or more, got True",
        ),
        (
            lambda: Intensity(2.5, per=5),
            ValueError,
            "Intensity: max_restarts must be a whole number, 0 or more, got 2.5",
        ),
        (lambda: Intensity(-1, per=5), ValueError, "Intensity: max_restarts must be a whole number, 0 or more, got -1"),
        (lambda: Intensity(3, per="5"), TypeError, "Intensity: per must be a number of seconds above 0, got '5'"),
        (lambda: Backoff("x"), TypeError, "Backoff: initial must be a number of seconds, 0 or more, got 'x'"),
        (
            lambda: Backoff(1, maximum=None),
            TypeError,
            "Backoff: maximum must be a number of seconds, 0 or more, got None",
        ),
        (lambda: Backoff(1, factor=0.5), ValueError, "Backoff: factor must be a number, 1 or more, got 0.5"),
        (lambda: Backoff(1, jitter=2), ValueError, "Backoff: jitter must be a number from 0 to 1, got 2"),
        (
            lambda: Backoff(1, reset_after="x"),
            TypeError,
            "Backoff: reset_after must be a number of seconds above 0, got 'x'",
        ),
    ],
)
def test_errors_are_worded_alike(make: Any, error: type[Exception], expected: str) -> None:
    """The class and the attribute, what it must be, and the value."""
    with pytest.raises(error) as raised:
        make()
    assert str(raised.value) == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda nan: Intensity(nan, per=5),
        lambda nan: Intensity(3, per=nan),
        Backoff,
        lambda nan: Backoff(1, maximum=nan),
        lambda nan: Backoff(1, factor=nan),
        lambda nan: Backoff(1, jitter=nan),
        lambda nan: Backoff(1, reset_after=nan),
    ],
    ids=["max_restarts", "per", "initial", "maximum", "factor", "jitter", "reset_after"],
)
def test_nan_is_refused_everywhere(make: Any) -> None:
    """It compares with nothing, so no decision can be made with it."""
    with pytest.raises(ValueError, match="got nan"):
        make(math.nan)


def _power(factor: float, exponent: int) -> float:
    try:
        return factor**exponent
    except OverflowError:
        return math.inf
