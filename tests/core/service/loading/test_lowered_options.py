"""Fewer requests at once, then less context, until a load fits; only what nobody asked for."""

from __future__ import annotations

from typing import Any

import pytest

from modeldeck.core.schema import Forecast, LoadOptions, OptionOrigin
from modeldeck.core.service.loading.lowered_options import LoadFitting

WEIGHTS, CELL, SLOT = 1_000_000, 100, 20_000
"""Bytes of a made-up model: of its weights, of a cell of its KV cache, of the state of a slot."""


def needed(cells: int, parallel: int) -> int:
    return WEIGHTS + CELL * cells + SLOT * parallel


async def forecast(options: LoadOptions) -> Forecast:
    cells = max(options.context_length or 0, options.cache_tokens or 0)
    total = needed(cells, options.parallel or 1)
    return Forecast(
        total_bytes=total,
        weights_bytes=WEIGHTS,
        kv_bytes=total - WEIGHTS,
        compute_bytes=0,
        overhead_bytes=0,
        exact=True,
    )


UNASKED: dict[str, OptionOrigin] = {
    "context_length": "default",
    "context_fit": "default",
    "parallel": "default",
}
SHORTER = "context {} chosen: the largest that fits; 8192 would need 0.0 GiB"
FEWER = "{} at once: 4 would need 0.0 GiB, for which there is no room"


@pytest.mark.parametrize(
    ("room", "changes", "origins", "length", "parallel", "notes"),
    [
        (needed(8192, 4), {}, {}, 8192, 4, ()),
        # Requests at once go before the context does.
        (needed(8192, 4) - 1, {}, {}, 8192, 2, (FEWER.format("2 requests"),)),
        (needed(8192, 2) - 1, {}, {}, 8192, 1, (FEWER.format("one request"),)),
        # A shorter context has room for all of them again.
        (
            needed(4096, 4),
            {},
            {},
            4096 + 512,
            1,
            (SHORTER.format(4608), FEWER.format("one request")),
        ),
        (needed(8192, 1) - 1, {}, {}, 7936, 2, (SHORTER.format(7936), FEWER.format("2 requests"))),
        # What was asked for stays.
        (needed(8192, 4) - 1, {}, {"parallel": "request"}, 7936, 4, (SHORTER.format(7936),)),
        (needed(8192, 4) - 1, {}, {"parallel": "last use"}, 7936, 4, (SHORTER.format(7936),)),
        (needed(8192, 2), {"context_fit": None}, {}, 8192, 2, (FEWER.format("2 requests"),)),
        # Where nothing fits, the least is what is refused.
        (WEIGHTS, {"context_fit": None}, {}, 8192, 1, ()),
        (WEIGHTS, {}, {}, 2048, 1, ("context 2048 taken: not even that has room",)),
        # Cells that were asked for are taken whatever a request may reach.
        (needed(8192, 4), {"cache_tokens": 16384}, {}, 8192, 1, ()),
        (needed(16384, 2), {"cache_tokens": 16384}, {}, 8192, 2, (FEWER.format("2 requests"),)),
        # An embedding model has no requests at once.
        (needed(8192, 1), {"parallel": None}, {}, 8192, None, ()),
        (
            needed(8192, 4),
            {},
            {"context_fit": "request"},
            8192,
            4,
            ("context 8192 chosen: as much as was wanted fits",),
        ),
    ],
)
async def test_what_fits_is_found_and_told(
    room: int,
    changes: dict[str, Any],
    origins: dict[str, OptionOrigin],
    length: int,
    parallel: int | None,
    notes: tuple[str, ...],
) -> None:
    wanted = {"context_length": 8192, "context_fit": True, "parallel": 4, **changes}
    fitting = LoadFitting(
        LoadOptions(**wanted),
        UNASKED | origins,
        forecast,
        lambda need: need.total_bytes <= room,
    )
    found = await fitting.fit()
    assert (found.options.context_length, found.options.parallel) == (length, parallel)
    assert found.notes == notes
    assert found.options.context_fit is None
    assert "context_fit" not in found.origins
    assert (found.origins["context_length"] == "fit") == (length != 8192)
    assert (found.origins["parallel"] == "fit") == (parallel not in (4, None))
