"""Terminal notifications for long jobs that have ended. Pure.

The bell (BEL, ECMA-48 8.3.3) is known to every terminal; tmux and screen mark the window with it.
OSC 9 is a notification of the desktop in iTerm2, WezTerm, kitty, Ghostty, foot and Windows
Terminal; tmux passes it on where its `allow-passthrough` is on, and gets the bell besides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from modeldeck.tui.text import format as fmt

if TYPE_CHECKING:
    from modeldeck.core.schema.state import State

Way = Literal["off", "bell", "osc9"]

BELL = "\a"
LONGEST = 200
"""Characters of a notification; desktops cut longer ones."""


def ended(before: State | None, now: State, after_s: float) -> list[str]:
    """Jobs and loads that ended between two States after at least `after_s` seconds, as text."""
    from modeldeck.core.schema import (
        InstanceState,  # there is no State before the records are imported
    )

    if before is None or before.host.started_at != now.host.started_at:
        return []
    words = []
    for job in now.downloads.values():
        was = before.downloads.get(job.id)
        if was is None or was.state == job.state or job.seconds < after_s:
            continue
        if job.state in ("completed", "failed"):
            verb = "downloaded" if job.state == "completed" else "could not be downloaded"
            words.append(f"{job.unique} {verb}")
    for instance in now.instances.values():
        last = before.instances.get(instance.id)
        if last is None or last.state is not InstanceState.STARTING:
            continue
        if instance.state is InstanceState.READY and (instance.load_s or 0) >= after_s:
            words.append(f"{instance.unique} loaded")
    return words


def sequence(words: str, way: Way, environ: Mapping[str, str]) -> str:
    """Escape sequence for the terminal; empty when notifications are off."""
    if way == "off":
        return ""
    if way == "bell":
        return BELL
    text = fmt.cut(fmt.clean(words).replace(";", ","), LONGEST)
    osc = f"\x1b]9;{text}\a"
    if environ.get("TMUX"):
        return f"\x1bPtmux;{osc.replace(chr(27), chr(27) * 2)}\x1b\\{BELL}"
    return osc
