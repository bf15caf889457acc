"""What becomes of an error that nobody expected."""

from __future__ import annotations

import logging

from modeldeck.core.errors import DeckError

_log = logging.getLogger(__name__)


def unexpected(error: BaseException) -> DeckError:
    """What is told of an error that nobody expected; it is logged with its traceback."""
    _log.error("work beside the screen failed", exc_info=error)
    return DeckError(
        f"Something went wrong that should not: {type(error).__name__}: {error}.",
        "This is a bug of modeldeck. It may be worth trying again.",
    )
