"""The arguments of a call as an object, for dialects that have them so. Pure."""

from __future__ import annotations

import json
from typing import Any

from modeldeck.core.schema import ToolCall


def input_of(call: ToolCall) -> dict[str, Any]:
    """The arguments of a call; text that is no JSON object becomes the value of `arguments`."""
    try:
        found = json.loads(call.arguments or "{}")
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"arguments": call.arguments}
