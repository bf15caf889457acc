"""Notices about changes between two States: finished downloads, loads, verifications. Pure.

They come from comparing States, not from events, so an overflow or a reconnect loses none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from modeldeck.core.schema import Download, Instance, InstanceState, Verification
from modeldeck.core.schema.errors import from_info
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.commands import KeyOf
from modeldeck.tui.dashboard.widgets.notice import Severity
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records
from modeldeck.tui.text.model_names import row_name


@dataclass(frozen=True, slots=True)
class News:
    """A message about a change."""

    text: str
    severity: Severity
    about: str
    """Id of the model, or of the check."""


def news(before: State | None, now: State, key_of: KeyOf) -> list[News]:
    """Notices to show; none for the first State of a core."""
    if before is None or before.host.started_at != now.host.started_at:
        return []
    said: list[News] = []

    def name(thing: Download | Instance) -> str:
        return row_name(thing.model_id or "", thing.unique, now.models)

    if before.downloads is not now.downloads:
        for job in now.downloads.values():
            was = before.downloads.get(job.id)
            if was is None or was.state != job.state:  # may be too short to be seen
                said += _download(job, name(job))
    if before.instances is not now.instances:
        for instance in now.instances.values():
            known = before.instances.get(instance.id)
            if known is None or known.state is not instance.state:
                was_in = known.state if known else InstanceState.STARTING
                said += _instance(was_in, instance, name(instance))
    if before.verifications is not now.verifications:
        for check in now.verifications.values():
            last = before.verifications.get(check.id)
            if last is None or last.state != check.state:
                said += _check(check, _checked(check, now), key_of)
    return said


def _checked(check: Verification, state: State) -> str:
    """What a check reads: one model by the name of its row."""
    if len(check.model_ids) != 1:
        return check.what
    return row_name(check.model_ids[0], check.what, state.models)


def _download(job: Download, name: str) -> list[News]:
    about = job.model_id or job.unique
    if job.state == "completed":
        return [News(records.downloaded(job, name), "done", about)]
    if job.state == "failed":
        why = f": {from_info(job.error)}" if job.error else ""
        return [News(f"The download of {name} failed{why}", "error", about)]
    return []


def _instance(was: InstanceState, now: Instance, name: str) -> list[News]:
    if now.state is InstanceState.READY and was is InstanceState.STARTING:
        length = fmt.tokens(now.context_length)
        words = f"{name} is ready: {fmt.duration(now.load_s)}, {length} context"
        return [News(words, "done", now.model_id)]
    if now.state is InstanceState.FAILED:
        why = f": {brief(str(from_info(now.error)))}" if now.error else ""
        verb = "could not be loaded" if was is InstanceState.STARTING else "ended"
        return [News(f"{name} {verb}{why}", "error", now.model_id)]
    return []


_PATH = re.compile(r"(?:/[^\s/:'\"]+){3,}(?=/)")


def brief(text: str) -> str:
    """Shorten long paths to their last part: errors of engines name files in full.

    >>> brief("cannot read /home/me/.cache/hub/a.gguf: denied")
    'cannot read …/a.gguf: denied'
    """
    return _PATH.sub("…", text)


def _check(check: Verification, name: str, key_of: KeyOf) -> list[News]:
    if check.state == "canceled":
        return [News(f"Check of {name} cancelled.", "note", check.what)]
    if check.state == "failed":
        why = f": {from_info(check.error)}" if check.error else ""
        return [News(f"The check of {name} failed{why}", "error", check.what)]
    if check.state != "completed":
        return []
    files = fmt.number(check.files, "file")
    if check.wrong:
        names = ", ".join(path.rsplit("/", 1)[-1] for path in check.wrong)
        words = f"{name}: {len(check.wrong)} of {files} corrupt: {names}."
        drop, fetch = key_of("catalog.delete"), key_of("catalog.download")
        remedy = f"In the Catalog {drop} deletes them, {fetch} downloads them again."
        return [News(f"{words} {remedy}", "error", check.what)]
    words = f"{name}: {files} verified, {fmt.size(check.total_bytes)}"
    if check.unchecked:
        words += f"; {fmt.number(len(check.unchecked), 'file')} without a hash to check against"
    return [News(words, "done", check.what)]
