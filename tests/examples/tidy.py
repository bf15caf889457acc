"""Look after a machine: what is there, what deleting gives back, and what an error says.

python tests/examples/tidy.py http://127.0.0.1:5323 deck/tiny-GGUF:Q8_0
"""

import asyncio
import sys

from modeldeck.core.client import Client
from modeldeck.core.errors import DeckError, InUse


async def tidy(client: Client, name: str) -> int:
    """Delete a model's files; the bytes that came back."""
    state = await client.state()
    for model in state.models.values():
        if model.downloaded:
            print(f"{model.unique}: {model.size_bytes} bytes")
    for instance in state.instances.values():
        print(f"{instance.unique} is {instance.state}: {instance.measured_bytes} bytes")

    plan = await client.plan_deletion([name])
    print(f"would free {plan.freed_bytes} bytes")
    try:
        receipt = await client.delete_cached([name])
    except InUse as error:  # the class of an error survives the wire
        print(f"{error.message} {error.remedy}")
        receipt = await client.delete_cached([name], force=True)
    return receipt.freed_bytes


async def main(url: str, name: str) -> None:
    """Tidy up on the machine whose core answers at this address."""
    try:
        async with Client(url=url) as client:
            print(f"{await tidy(client, name)} bytes came back")
    except DeckError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
