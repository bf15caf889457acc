"""From nothing to an answer: fetch a model, see what it takes, load it, ask it, let it go.

python tests/examples/ask.py Qwen/Qwen3-0.6B-GGUF:Q8_0 "Why is the sky blue?"
"""

import asyncio
import sys

from modeldeck.core.client import Client, find, locate, start_background
from modeldeck.core.schema import GenerateRequest, LoadOptions, Message


async def ask(client: Client, name: str, question: str) -> str:
    """The model's answer, which is printed as it comes."""
    fit = await client.fit(name, context_length=4096)
    print(f"{name}: {fit.verdict}, {fit.forecast.total_bytes if fit.forecast else '?'} bytes")

    model, job = await client.download(name)  # None when it is here already
    if job is not None:
        async with client.feed.states(max_hz=4) as states:
            async for state in states:
                job = state.downloads[job.id]
                print(f"{job.state}: {job.received_bytes} of {job.total_bytes} bytes")
                if job.state in ("completed", "failed", "canceled"):
                    break

    instance = await client.loaded(model.id, LoadOptions(context_length=4096))
    request = GenerateRequest(messages=(Message(role="user", content=question),), temperature=0)
    answer = ""
    async with client.generate(model.id, request) as chunks:  # leaving the block ends the answer
        async for chunk in chunks:
            print(chunk.text, end="", flush=True)
            answer += chunk.text
    print()

    receipt = await client.unload(instance.id)
    print(f"{receipt.freed_bytes} bytes came back in {receipt.seconds:.1f} s")
    return answer


async def main() -> None:
    """Ask this user's core, which is started in the background where none runs."""
    core = await find(locate()) or await start_background(locate())
    async with core.client() as client:
        await ask(client, *sys.argv[1:3])


if __name__ == "__main__":
    asyncio.run(main())
