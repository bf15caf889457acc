"""State machine of an instance, as one table.

Theory of operation. An instance is an engine process and the task that owns it; only that task
raises events. An instance starts, and is ready once the engine has loaded the model. It is busy
while it answers requests, and ready again when none is left. When its process fails during an
answer it is started again, and gets ready or fails like any other load. A stop is accepted in every
state with a running process, and only the end of the process makes the instance stopped. A load
that fails, or a process that ends by itself, makes it failed; it stays in the list, with its error,
until it is removed. A failure of a process that is already being stopped is ignored.

`STOPPED` is final: the instance leaves the list.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from modeldeck.core.schema import InstanceState


class LifecycleEvent(StrEnum):
    """An event in the life of an instance."""

    LOADED = "loaded"
    """The engine has loaded the model."""
    WORK = "work"
    """A request is taken from the queue."""
    REST = "rest"
    """No request is left."""
    STOP = "stop"
    """It is to be unloaded: by a request, or after the idle time."""
    GONE = "gone"
    """Its process has ended after a stop."""
    RESTART = "restart"
    """Its process failed during an answer and is started again."""
    FAIL = "fail"
    """The load failed, or the process ended by itself."""
    REMOVE = "remove"
    """A failed instance is removed from the list."""


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


def after(state: InstanceState, event: LifecycleEvent) -> InstanceState:
    """Return the next state. Raises ValueError where the table has none, which is a bug.

    >>> after(InstanceState.STARTING, LifecycleEvent.LOADED)
    <InstanceState.READY: 'ready'>
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"nothing follows {event} in state {state}") from None
