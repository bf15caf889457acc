"""Client library: how a program talks to a core.

    from modeldeck.core.client import Client, find, locate, start_background

    core = await find(locate()) or await start_background(locate())
    async with modeldeck.core.client() as client:
        print((await client.state()).models)

`tests/examples/` shows more. The names are imported when they are first asked for: a module of this
package may be imported by a quick command that needs no more than that one.
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

_WHERE = {
    "Client": "modeldeck.core.client.client",
    "Paths": "modeldeck.core.config.paths",
    "Ready": "modeldeck.core.client.daemon",
    "builtin_names": "modeldeck.core.client.offline",
    "find": "modeldeck.core.client.daemon",
    "locate": "modeldeck.core.config.paths",
    "start_background": "modeldeck.core.client.daemon",
}


def __getattr__(name: str) -> Any:
    """A name of the library, from the module that has it."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(_WHERE[name]), name)
    return found
