"""Client library: how a program talks to a core.

    import asyncio
    from modeldeck.core.client import find, locate, start_background

    async def main():
        core = await find(locate()) or await start_background(locate())
        async with core.client() as client:
            print((await client.state()).models)
            async with client.feed.states() as states:  # the State after every change
                ...

    asyncio.run(main())

`Client` has one method for each request. `locate` gives the folders (`Paths`) of this user's core,
`find` a running core (`CoreReady`) or None, `start_background` one that outlives the program.
`builtin_names` lists the built-in catalog, which needs no core. A failure is raised as one of
`modeldeck.core.errors`; the records are those of `modeldeck.core.schema`. `tests/examples/` shows
more.

Each name is imported when it is first asked for: quick commands import single modules from here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.client.daemon import CoreReady, find, start_background
    from modeldeck.core.client.offline import builtin_names
    from modeldeck.core.config.paths import Paths, locate

__all__ = [
    "Client",
    "CoreReady",
    "Paths",
    "builtin_names",
    "find",
    "locate",
    "start_background",
]

_MODULES = {
    "Client": "modeldeck.core.client.client",
    "CoreReady": "modeldeck.core.client.daemon",
    "Paths": "modeldeck.core.config.paths",
    "builtin_names": "modeldeck.core.client.offline",
    "find": "modeldeck.core.client.daemon",
    "locate": "modeldeck.core.config.paths",
    "start_background": "modeldeck.core.client.daemon",
}


def __getattr__(name: str) -> Any:
    """A name of the library, from the module that defines it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value
