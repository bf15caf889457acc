"""What was seen of the core stays on the screen when it is killed, and verbs say what to do."""

from __future__ import annotations

from typing import Any

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.demo.hub import DemoHub
from tests.support.process import CoreProcess

PADDED = "deck/padded-GGUF:F16"
SLOW = 50_000
"""Bytes a second of each connection: the download does not end in the meantime."""


@pytest.fixture
def core(own_core: CoreProcess) -> CoreProcess:
    """Its own, since it is killed."""
    return own_core


async def begin(client: Client) -> None:
    """Download until some of it is here."""
    await client.download(PADDED)
    await client.feed.until(lambda s: any(j.received_bytes for j in s.downloads.values()))


async def test_an_error_of_the_core_is_a_line_that_says_what_to_do(
    screen: Any, core: CoreProcess, hub: DemoHub
) -> None:
    hub.rate_bytes_per_s = SLOW
    async with screen("downloads", before=begin) as at:
        await at.sees("downloading")
        core.kill()
        await at.press("p")
        await at.until(lambda: any(m.severity == "error" for m in at.app.messages))
        await at.sees("padded F16")  # the last known state stays
