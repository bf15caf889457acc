"""The keys of the load form: in the footer, and in the help."""

from __future__ import annotations

from collections.abc import Callable

from modeldeck.tui.dashboard.commands import Command
from modeldeck.tui.dashboard.questions import QuestionKey
from modeldeck.tui.dashboard.widgets.footer import QuestionFooter

HELP = (
    Command(name="enter", keys="enter", label="load", help="Load with these options."),
    Command(name="save", keys="ctrl+s", label="save", help="Save them as the model's defaults."),
    Command(
        name="step",
        keys="left,right",
        label="change",
        help="Change the value of the field.",
        changes=False,
    ),
    Command(
        name="type", keys="0", label="type", help="Type a number; k and m are units.", changes=False
    ),
    Command(
        name="fits",
        keys="f",
        label="fits",
        help="Take the largest context that fits.",
        changes=False,
    ),
    Command(
        name="next", keys="tab,down", label="next", help="Go to the next field.", changes=False
    ),
    Command(
        name="before",
        keys="shift+tab,up",
        label="before",
        help="Go to the field before.",
        changes=False,
    ),
    Command(
        name="back",
        keys="backspace",
        label="default",
        help="Give the field back to its default.",
        changes=False,
    ),
    Command(
        name="leave",
        keys="escape",
        label="leave",
        help="Leave; the values are kept.",
        changes=False,
    ),
)
"""The keys of the form, as the help lists them."""


def key_line(*, reload: bool, ways: int, press: Callable[[str], None]) -> QuestionFooter:
    """The footer of the form.

    Args:
        reload: Whether the model is loaded already.
        ways: Number of ways to choose from, where the load does not fit.
        press: Called with the key that was clicked.
    """
    word = "Reload" if reload else "Load"
    if ways:
        first = QuestionKey(
            keys="1" if ways == 1 else f"1-{ways}", label="take", press="1", required=True
        )
    else:
        first = QuestionKey(keys="enter", label=word.lower(), press="enter", required=True)
    rest = (
        QuestionKey(keys="← →", label="change", press="right"),
        QuestionKey(keys="tab", label="next", press="tab"),
    )
    leave = QuestionKey(keys="esc", label="leave", press="escape", required=True)
    if ways:
        return QuestionFooter(word=word, keys=(first, *rest, leave), pressed=press)
    save = QuestionKey(
        keys="ctrl+s", label="save as default", short="save", press="ctrl+s", required=True
    )
    back = QuestionKey(keys="backspace", label="default", press="backspace")
    return QuestionFooter(word=word, keys=(first, save, *rest, back, leave), pressed=press)
