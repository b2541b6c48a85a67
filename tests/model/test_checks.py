"""What users pass is checked in one place, with one wording."""

from __future__ import annotations

from collections.abc import Generator
from types import coroutine

import pytest

from rookery._model.checks import Accepted, called_already, check_message


@pytest.mark.parametrize("accepted", [None, (int,), (str, int)])
def test_a_message_of_an_accepted_type_passes(accepted: Accepted) -> None:
    """Without an annotation every type does."""
    check_message(1, accepted, "/actor")


def test_a_coroutine_that_has_started_is_left_to_whoever_runs_it() -> None:
    """Only one that nobody has begun to await is closed."""

    @coroutine
    def pause() -> Generator[None, None, None]:
        yield

    async def begun() -> None:
        await pause()

    running = begun()
    running.send(None)
    error = called_already(running, "what was wanted", "what to write")
    assert str(error).endswith("do not call it: what to write")
    with pytest.raises(StopIteration):
        running.send(None)
