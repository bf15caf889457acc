"""What the machine and its instances held, as far as this dashboard has seen it."""

from __future__ import annotations

from collections import deque
from datetime import datetime, timedelta

from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.screens.memory import gauge, rows
from modeldeck.tui.dashboard.widgets.bars import History
from modeldeck.tui.dashboard.widgets.history_chart import HistoryData, HistoryMark, axis_width

PAST_S = 600.0
"""Seconds that are shown."""
PAST_SLOTS = 600
"""Values that are kept of an instance."""
CHART_S = 900.0
"""Seconds that are kept for the chart: a column has whole slots, so it may span more."""
SLOT_S = 0.5
"""Seconds of a value of the chart."""
MARKS = 32
"""Loads and unloads that are kept for the chart."""
UNIT = 1 << 30
"""What is 1 on the axis of the chart: a GiB."""


class MemoryHistory:
    """The histories of the machine and of each instance, and when models were loaded."""

    def __init__(self) -> None:
        self.machine = History(CHART_S, int(CHART_S / SLOT_S))
        """Memory in use by all programs."""
        self._instances: dict[str, History] = {}
        """By id."""
        self._marks: deque[tuple[float, str]] = deque(maxlen=MARKS)
        """Loads and unloads: when, and in words."""
        self._numbers: dict[str, int] | None = None
        """The numbers of the instances that were loaded in the last State; None before it."""
        self._minute = ""
        """What the clock of the chart showed last."""

    def note(self, now: float, state: State) -> None:
        """Note a State at a time in seconds, which never decreases."""
        self.machine.add(now, rows.used(state.memory))
        for key, instance in state.instances.items():
            past = self._instances.setdefault(key, History(PAST_S, PAST_SLOTS))
            past.add(now, instance.measured_bytes)
        for gone in self._instances.keys() - state.instances.keys():
            del self._instances[gone]
        self._mark(now, state)

    def goes_on(self, now: float, state: State | None) -> bool:
        """Note what still holds; None while the core is not heard. Whether the chart is due.

        While nothing changes it is drawn once a minute, as its clock.
        """
        if state is not None:
            self.note(now, state)
        before, self._minute = self._minute, f"{datetime.now():%H:%M}"
        return self._minute != before

    def _mark(self, now: float, state: State) -> None:
        """Note which models were loaded or unloaded since the last State."""
        loaded = {
            key: number
            for key, number in gauge.by_number(state).items()
            if state.instances[key].load_s is not None and state.instances[key].state.live
        }
        known, self._numbers = self._numbers, loaded
        if known is None:
            return
        for words, before, after in (("load", known, loaded), ("unload", loaded, known)):
            new = [str(number) for key, number in after.items() if key not in before]
            if new:
                self._marks.append((now, f"{words} {', '.join(new)}"))

    def of_instance(self, key: str, now: float, cells: int) -> list[float | None]:
        """What an instance held, the newest last; empty for one that is not known."""
        past = self._instances.get(key)
        return past.values(now, cells) if past is not None else []

    def chart(self, state: State, now: float, width: int) -> HistoryData | None:
        """What the machine held, for a chart of `width` cells; None for no known total."""
        total = state.memory.total_bytes
        if not total:
            return None
        cells = max(10, width - 2 - axis_width(total, UNIT) - 1)
        each = max(1, round(PAST_S / SLOT_S / cells))
        clock = datetime.now().astimezone()
        return HistoryData(
            values=self.machine.recent(now, min(cells, int(CHART_S / SLOT_S) // each), each),
            step_s=each * SLOT_S,
            now=clock,
            top=total,
            unit=UNIT,
            started=datetime.fromisoformat(state.host.started_at),
            marks=[
                HistoryMark(at=clock - timedelta(seconds=now - at), words=words)
                for at, words in self._marks
            ],
        )
