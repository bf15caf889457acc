"""The arguments of a call as an object, for dialects that have them so. Pure."""

from __future__ import annotations

import json
from typing import Any

from modeldeck.core.schema import ToolCall


def input_of(call: ToolCall) -> dict[str, Any]:
    """The arguments of a call; none of one that is not complete, since a part may do harm."""
    return json.loads(call.arguments or "{}") if call.complete else {}
