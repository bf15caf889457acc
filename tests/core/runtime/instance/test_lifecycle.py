import pytest

from modeldeck.core.runtime.instance.lifecycle import TRANSITIONS, LifecycleEvent, after
from modeldeck.core.schema import InstanceState as S

LIVES = [
    (
        [
            LifecycleEvent.LOADED,
            LifecycleEvent.WORK,
            LifecycleEvent.REST,
            LifecycleEvent.STOP,
            LifecycleEvent.GONE,
        ],
        S.STOPPED,
    ),
    (
        [LifecycleEvent.LOADED, LifecycleEvent.WORK, LifecycleEvent.STOP, LifecycleEvent.GONE],
        S.STOPPED,
    ),
    ([LifecycleEvent.STOP, LifecycleEvent.GONE], S.STOPPED),
    ([LifecycleEvent.FAIL, LifecycleEvent.REMOVE], S.STOPPED),
    ([LifecycleEvent.LOADED, LifecycleEvent.WORK, LifecycleEvent.FAIL], S.FAILED),
    (
        [
            LifecycleEvent.LOADED,
            LifecycleEvent.WORK,
            LifecycleEvent.RESTART,
            LifecycleEvent.LOADED,
            LifecycleEvent.WORK,
        ],
        S.BUSY,
    ),
    (
        [LifecycleEvent.LOADED, LifecycleEvent.WORK, LifecycleEvent.RESTART, LifecycleEvent.FAIL],
        S.FAILED,
    ),
    (
        [
            LifecycleEvent.LOADED,
            LifecycleEvent.WORK,
            LifecycleEvent.RESTART,
            LifecycleEvent.STOP,
            LifecycleEvent.GONE,
        ],
        S.STOPPED,
    ),
    ([LifecycleEvent.LOADED, LifecycleEvent.FAIL], S.FAILED),
]


@pytest.mark.parametrize(("signals", "end"), LIVES)
def test_a_life_goes_as_the_table_says(signals: list[LifecycleEvent], end: S) -> None:
    state = S.STARTING
    for signal in signals:
        state = after(state, signal)
    assert state is end


@pytest.mark.parametrize("state", list(S))
@pytest.mark.parametrize("signal", list(LifecycleEvent))
def test_what_the_table_does_not_have_is_a_bug(state: S, signal: LifecycleEvent) -> None:
    if (state, signal) in TRANSITIONS:
        assert after(state, signal) is TRANSITIONS[state, signal]
    else:
        with pytest.raises(ValueError, match="nothing follows"):
            after(state, signal)


def test_every_live_state_hears_the_wish_to_stop_and_a_failure() -> None:
    for state in S:
        assert ((state, LifecycleEvent.STOP) in TRANSITIONS) is state.live
        assert ((state, LifecycleEvent.FAIL) in TRANSITIONS) is state.live


def test_nothing_follows_the_end() -> None:
    assert not [state for state, _ in TRANSITIONS if state is S.STOPPED]
