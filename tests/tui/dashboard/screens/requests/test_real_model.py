"""Requests to a real model: figures, slots, and a copied line of curl that runs."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from modeldeck.core.client.client import Client
from modeldeck.core.demo.vocabulary import expected
from modeldeck.core.schema import GenerateRequest, LoadOptions, Message
from tests.tui.dashboard.screens.steps import TINY, fetched

COUNT = GenerateRequest(messages=(Message(role="user", content="Please count."),))


async def loaded(client: Client) -> None:
    await fetched(TINY)(client)
    await client.loaded(TINY, LoadOptions(parallel=2, context_length=512))


async def ask(client: Client) -> None:
    async with client.generate(TINY, COUNT) as chunks:
        assert "".join([chunk.text async for chunk in chunks]) == expected("count")


async def test_figures_and_what_a_free_slot_keeps(screen: Any) -> None:
    async def asked(client: Client) -> None:
        await loaded(client)
        await ask(client)
        await client.feed.until(
            lambda s: bool(s.requests) and all(i.state == "done" for i in s.requests.values())
        )

    async with screen("memory", before=asked) as at:
        await at.sees("Requests", "tokens", "tok/s", "cached")
        await at.press("enter")
        await at.sees("slots     1  free, keeps ", "          2  free")
        (instance,) = at.state.instances.values()
        (info,) = [r for r in at.state.requests.values() if r.instance_id == instance.id][-1:]
        assert info.context_length == 512
        assert info.slot == 0
        kept = instance.slots[0].tokens
        assert info.prompt_tokens + info.completion_tokens - 2 <= kept
        today = at.state.requests_today
        assert today.requests >= 1
        assert today.prompt_tokens >= info.prompt_tokens
        await at.press("escape", "r")
        await at.sees(f"today {today.requests} request", "── last", " %", "done")


async def test_copied_curl_runs(screen: Any) -> None:
    async with screen("requests", before=loaded) as at:
        await at.press("y")
        await at.sees("opied")
        await ask(at.client)
        await at.sees("done")
        await at.press("g", "y")
        await at.sees("Copied as curl, without its text.")
        line = at.app.clipboard
        assert "count" not in line
        process = await asyncio.create_subprocess_shell(
            line,
            env=dict(os.environ),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0
        assert b'"choices"' in said
        await at.sees("curl ")
