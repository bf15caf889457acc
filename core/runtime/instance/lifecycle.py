"""The life of an instance, as one table.

Theory of operation. An instance is an engine process and the task that owns it; only that task
sends signals. It starts, and is ready once the engine has the model. While it answers it is busy;
with nothing left to answer it is ready again. When its process dies over an answer it is started
anew, and is ready again or fails like any other load. Being told to stop is heard in every state in
which there is something to stop, and only the end of the process makes it stopped. A load that
fails, or a process that ends unasked, makes it failed; it stays to be read until it is removed.
What happens to a process that is already being stopped is no failure: it was to end anyway.

`STOPPED` is final: the instance leaves the list when it gets there.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from modeldeck.core.schema import InstanceState


class LifecycleEvent(StrEnum):
    """What happens to an instance."""

    LOADED = "loaded"
    """The engine has the model."""
    WORK = "work"
    """A request is taken up."""
    REST = "rest"
    """No request is left."""
    STOP = "stop"
    """Somebody, or the idle time, wants it unloaded."""
    GONE = "gone"
    """Its process is gone as it should be."""
    RESTART = "restart"
    """Its process died over an answer and is started again."""
    FAIL = "fail"
    """The load failed, or the process ended unasked."""
    REMOVE = "remove"
    """A failed instance is taken off the list."""


TRANSITIONS: Mapping[tuple[InstanceState, LifecycleEvent], InstanceState] = {
    (InstanceState.STARTING, LifecycleEvent.LOADED): InstanceState.READY,
    (InstanceState.STARTING, LifecycleEvent.STOP): InstanceState.STOPPING,
    (InstanceState.STARTING, LifecycleEvent.FAIL): InstanceState.FAILED,
    (InstanceState.READY, LifecycleEvent.WORK): InstanceState.BUSY,
    (InstanceState.READY, LifecycleEvent.STOP): InstanceState.STOPPING,
    (InstanceState.READY, LifecycleEvent.FAIL): InstanceState.FAILED,
    (InstanceState.BUSY, LifecycleEvent.REST): InstanceState.READY,
    (InstanceState.BUSY, LifecycleEvent.STOP): InstanceState.STOPPING,
    (InstanceState.BUSY, LifecycleEvent.RESTART): InstanceState.STARTING,
    (InstanceState.BUSY, LifecycleEvent.FAIL): InstanceState.FAILED,
    (InstanceState.STOPPING, LifecycleEvent.GONE): InstanceState.STOPPED,
    (InstanceState.FAILED, LifecycleEvent.REMOVE): InstanceState.STOPPED,
}


def after(state: InstanceState, signal: LifecycleEvent) -> InstanceState:
    """The state that follows. Raises ValueError where the table has none: that is a bug.

    >>> after(InstanceState.STARTING, LifecycleEvent.LOADED)
    <InstanceState.READY: 'ready'>
    """
    try:
        return TRANSITIONS[state, signal]
    except KeyError:
        raise ValueError(f"nothing follows {signal} in state {state}") from None
