"""Copying a model to another machine by a key, on two real cores with homes of their own."""

from __future__ import annotations

from modeldeck.core.demo.hub import DemoHub
from modeldeck.tui.dashboard.screens.fleet.screen import FleetView
from modeldeck.tui.dashboard.widgets.table import Table
from tests.support.process import CoreProcess
from tests.tui.dashboard.screens.fleet.fleet_steps import PADDED, TINY, fetched, fleet

SLOW = 200_000
"""Bytes a second of a copy, which takes minutes so: it does not end while a test looks at it."""
HEADER_BYTES = 2 << 20
"""What a machine may read of a model to tell whether it fits."""


async def test_a_model_is_copied_to_the_machine_under_the_cursor(
    core: CoreProcess, other: CoreProcess, hub: DemoHub, undebugged: None
) -> None:
    await fetched(core, PADDED)
    served = len(hub.log)
    async with fleet(core, other) as screen:
        await screen.client.change_settings(rate_limit_bytes_per_s=SLOW)
        await screen.press("f")
        await screen.sees("Which machine would serve?")
        await screen.write(PADDED)
        await screen.press("enter")
        await screen.sees(f"which would serve {PADDED}", "1st fits", "2nd downloads")
        await screen.press("c")
        await screen.sees(f"! {PADDED} is on gpu1 already.")
        await screen.press("j", "c")
        await screen.sees(
            f"Copy {PADDED} from gpu1 to gpu2: 33.4 MB through this machine.",
            "y copy it  n esc leave it there",
        )
        await screen.press("y")
        await screen.sees("copying ", f"copying from gpu1: {PADDED}  downloading")
        await screen.press("c")
        await screen.sees("A copy to gpu2 is under way.")
        await screen.press("q")
        await screen.sees(
            "A copy to gpu2 is under way. It goes through", "y leave anyway  n esc stay "
        )
        await screen.press("n")
        await screen.client.change_settings(rate_limit_bytes_per_s=None)
        await screen.sees(f"{PADDED} copied from gpu1 to gpu2: 33.4 MB in", "1 file verified")
        state = await screen.client.state()
        assert [m.unique for m in state.models.values() if m.downloaded] == [PADDED]
    sent = sum(entry.bytes_sent for entry in list(hub.log)[served:] if entry.origin == "storage")
    assert sent <= HEADER_BYTES, "nothing was downloaded again"


async def test_what_no_machine_has_cannot_be_copied(
    core: CoreProcess, other: CoreProcess, undebugged: None
) -> None:
    async with fleet(core, other) as screen:
        await screen.press("c")
        await screen.sees("Copy what to gpu1?")
        await screen.write(TINY)
        await screen.press("enter")
        await screen.sees(f"No other machine has {TINY}.", "d in the Catalog")


async def test_a_copy_that_is_cancelled_over_there_says_how_it_goes_on(
    core: CoreProcess, other: CoreProcess, undebugged: None
) -> None:
    await fetched(core, PADDED)
    async with fleet(core, other) as screen:
        await screen.client.change_settings(rate_limit_bytes_per_s=SLOW)
        await screen.press("j", "c")
        await screen.sees("Copy what to gpu2?")
        await screen.write(PADDED)
        await screen.press("enter")
        await screen.sees("y copy it")
        await screen.press("y")
        await screen.sees("copying from gpu1")
        (job,) = (await screen.client.state()).downloads
        await screen.client.cancel_download(job)
        await screen.sees(f"The copy of {PADDED} was cancelled.", "c continues the copy.")


async def test_a_copy_to_a_machine_is_prepared_once(
    core: CoreProcess, other: CoreProcess, undebugged: None
) -> None:
    async with fleet(core, other) as screen:
        view = screen.app.screen.query_one(FleetView)
        view.action_copy()
        view.action_copy()
        await screen.sees("Copy what to gpu1?")
        await screen.press("escape")
        await screen.until(lambda: screen.app.question is None)
        said = [message.text for message in screen.app.messages]
        assert "A copy to gpu1 is under way." in said


async def test_fleet_draws_nothing_while_its_parts_are_removed(
    core: CoreProcess, other: CoreProcess, undebugged: None
) -> None:
    async with fleet(core, other) as screen:
        view = screen.app.screen.query_one(FleetView)
        await view.query_one(Table).remove()
        view.draw()
