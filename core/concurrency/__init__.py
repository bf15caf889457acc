"""Tasks in the background, blocking work in threads, and how both end cleanly.

`BackgroundTasks` owns work that nothing waits for; `together` and `each_to_its_end` wait for
several things at once. `in_thread` runs a short blocking action; `in_own_thread` one that can be
aborted; `DaemonThreadPool` one that may never return.
"""

from modeldeck.core.concurrency.standard_input import end_of_input
from modeldeck.core.concurrency.tasks import (
    EXPECTED,
    BackgroundTasks,
    Repeated,
    contained,
    each_to_its_end,
    report_bug,
    report_failure,
    settled,
    together,
    unexpected,
    whole,
)
from modeldeck.core.concurrency.threads import (
    DaemonThreadPool,
    TimeLimitExceeded,
    TooManyStuck,
    in_own_thread,
    in_thread,
    start_detached,
)

__all__ = [
    "EXPECTED",
    "BackgroundTasks",
    "DaemonThreadPool",
    "Repeated",
    "TimeLimitExceeded",
    "TooManyStuck",
    "contained",
    "each_to_its_end",
    "end_of_input",
    "in_own_thread",
    "in_thread",
    "report_bug",
    "report_failure",
    "settled",
    "start_detached",
    "together",
    "unexpected",
    "whole",
]
