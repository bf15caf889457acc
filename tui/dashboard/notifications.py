"""Notices about changes between two States: finished downloads, loads, verifications. Pure.

They come from comparing States, not from events, so an overflow or a reconnect loses none.
"""

from __future__ import annotations

import re

from modeldeck.core.schema import Download, Instance, InstanceState, Verification
from modeldeck.core.schema.errors import from_info
from modeldeck.core.schema.state import State
from modeldeck.tui.dashboard.commands import KeyOf
from modeldeck.tui.dashboard.widgets.notice import Severity
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text import records

News = tuple[str, Severity]


def news(before: State | None, now: State, key_of: KeyOf) -> list[News]:
    """Notices to show; none for the first State of a core."""
    if before is None or before.host.started_at != now.host.started_at:
        return []
    said: list[News] = []
    if before.downloads is not now.downloads:
        for job in now.downloads.values():
            was = before.downloads.get(job.id)
            if was is None or was.state != job.state:  # may be too short to be seen
                said += _download(job)
    if before.instances is not now.instances:
        for instance in now.instances.values():
            known = before.instances.get(instance.id)
            if known is None or known.state is not instance.state:
                said += _instance(known.state if known else InstanceState.STARTING, instance)
    if before.verifications is not now.verifications:
        for check in now.verifications.values():
            last = before.verifications.get(check.id)
            if last is None or last.state != check.state:
                said += _check(check, key_of)
    return said


def _download(job: Download) -> list[News]:
    if job.state == "completed":
        return [(records.downloaded(job), "done")]
    if job.state == "failed":
        why = f": {from_info(job.error)}" if job.error else ""
        return [(f"The download of {job.unique} failed{why}", "error")]
    return []


def _instance(was: InstanceState, now: Instance) -> list[News]:
    if now.state is InstanceState.READY and was is InstanceState.STARTING:
        return [(records.loaded(now)[0], "done")]
    if now.state is InstanceState.FAILED:
        why = f": {brief(str(from_info(now.error)))}" if now.error else ""
        verb = "could not be loaded" if was is InstanceState.STARTING else "ended"
        return [(f"{now.unique} {verb}{why}", "error")]
    return []


_PATH = re.compile(r"(?:/[^\s/:'\"]+){3,}(?=/)")


def brief(text: str) -> str:
    """Shorten long paths to their last part: errors of engines name files in full.

    >>> brief("cannot read /home/me/.cache/hub/a.gguf: denied")
    'cannot read …/a.gguf: denied'
    """
    return _PATH.sub("…", text)


def _check(check: Verification, key_of: KeyOf) -> list[News]:
    if check.state == "canceled":
        return [(f"The check of {check.what} was called off.", "note")]
    if check.state == "failed":
        why = f": {from_info(check.error)}" if check.error else ""
        return [(f"The check of {check.what} failed{why}", "error")]
    if check.state != "completed":
        return []
    files = fmt.number(check.files, "file")
    if check.wrong:
        names = ", ".join(path.rsplit("/", 1)[-1] for path in check.wrong)
        words = f"{check.what}: {len(check.wrong)} of {files} corrupt: {names}."
        drop, fetch = key_of("catalog.delete"), key_of("catalog.download")
        return [
            (f"{words} In the Catalog {drop} deletes them, {fetch} fetches them again.", "error")
        ]
    words = f"{check.what}: {files} verified, {fmt.size(check.total_bytes)}"
    if check.unchecked:
        words += f"; {fmt.number(len(check.unchecked), 'file')} without a hash to check against"
    return [(words, "done")]
