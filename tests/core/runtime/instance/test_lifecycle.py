import pytest

from modeldeck.core.runtime.instance.lifecycle import TRANSITIONS, Signal, after
from modeldeck.core.schema import InstanceState as S

LIVES = [
    ([Signal.LOADED, Signal.WORK, Signal.REST, Signal.STOP, Signal.GONE], S.STOPPED),
    ([Signal.LOADED, Signal.WORK, Signal.STOP, Signal.GONE], S.STOPPED),
    ([Signal.STOP, Signal.GONE], S.STOPPED),
    ([Signal.FAIL, Signal.REMOVE], S.STOPPED),
    ([Signal.LOADED, Signal.WORK, Signal.FAIL], S.FAILED),
    ([Signal.LOADED, Signal.WORK, Signal.RESTART, Signal.LOADED, Signal.WORK], S.BUSY),
    ([Signal.LOADED, Signal.WORK, Signal.RESTART, Signal.FAIL], S.FAILED),
    ([Signal.LOADED, Signal.WORK, Signal.RESTART, Signal.STOP, Signal.GONE], S.STOPPED),
    ([Signal.LOADED, Signal.FAIL], S.FAILED),
]


@pytest.mark.parametrize(("signals", "end"), LIVES)
def test_a_life_goes_as_the_table_says(signals: list[Signal], end: S) -> None:
    state = S.STARTING
    for signal in signals:
        state = after(state, signal)
    assert state is end


@pytest.mark.parametrize("state", list(S))
@pytest.mark.parametrize("signal", list(Signal))
def test_what_the_table_does_not_have_is_a_bug(state: S, signal: Signal) -> None:
    if (state, signal) in TRANSITIONS:
        assert after(state, signal) is TRANSITIONS[state, signal]
    else:
        with pytest.raises(ValueError, match="nothing follows"):
            after(state, signal)


def test_every_live_state_hears_the_wish_to_stop_and_a_failure() -> None:
    for state in S:
        assert ((state, Signal.STOP) in TRANSITIONS) is state.live
        assert ((state, Signal.FAIL) in TRANSITIONS) is state.live


def test_nothing_follows_the_end() -> None:
    assert not [state for state, _ in TRANSITIONS if state is S.STOPPED]
