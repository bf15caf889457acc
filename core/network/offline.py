"""Offline mode: whether the environment forbids requests to other machines."""

from __future__ import annotations

import os
from collections.abc import Mapping

from modeldeck.core.errors import HubUnavailable

_TRUE = frozenset({"1", "ON", "YES", "TRUE"})
_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")


def forbidden_by(environ: Mapping[str, str] = os.environ) -> str | None:
    """Name of the variable that forbids requests; None where they are allowed.

    Source: huggingface_hub, `constants.HF_HUB_OFFLINE`: the first of the two that is not empty
    decides.

    >>> forbidden_by({"HF_HUB_OFFLINE": "yes"}), forbidden_by({"TRANSFORMERS_OFFLINE": "1"})
    ('HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE')
    >>> forbidden_by({"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"})
    """
    for name in _VARIABLES:
        if value := environ.get(name):
            return name if value.upper() in _TRUE else None
    return None


def check_online(environ: Mapping[str, str] = os.environ) -> None:
    """Raise HubUnavailable where the environment forbids requests to other machines."""
    if (name := forbidden_by(environ)) is not None:
        raise HubUnavailable(
            f"modeldeck is offline: {name} is set where the core was started.",
            f"To search and download, unset {name}, and start the core again (`modeldeck stop`).",
        )
