"""What happens to children and what is done about it, as values."""

from __future__ import annotations

from rookery._model.directives import Exit, Stop


def test_an_exit_without_more_is_a_normal_one() -> None:
    """Of a child that was ready and had nothing in hand; nothing is known of how long it lived."""
    assert Exit() == Exit(crash=None, lived=0.0, was_ready=True, interrupted=False, in_hand=None)


def test_a_stop_without_more_is_for_good() -> None:
    """One that another incarnation follows says so."""
    assert Stop("a") == Stop("a", for_good=True)
    assert Stop("a") != Stop("a", for_good=False)
