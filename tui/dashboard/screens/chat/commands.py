"""Commands of the Chat screen. Pure."""

from __future__ import annotations

from dataclasses import replace

from modeldeck.tui.dashboard.commands import Command

CHANGING = {"delete", "rename", "reload"}
"""Commands that are refused with `--readonly`; the others change no model and no kept chat."""


def _shown(name: str, keys: str, label: str, help: str) -> Command:
    """A command that the footer shows."""
    return Command(name=name, keys=keys, label=label, help=help, changes=name in CHANGING)


def _quiet(name: str, keys: str, label: str, help: str, action: str = "") -> Command:
    """A command that the footer does not show."""
    return replace(_shown(name, keys, label, help), action=action, footer=False)


COMMANDS: tuple[Command, ...] = (
    _shown("write", "i,enter", "write", "Write to the model."),
    _shown("chats", "c", "chats", "Show the list of chats, or hide it."),
    _shown("new", "n", "new", "Begin a new chat; this one is kept."),
    _shown("model", "m", "model", "Choose the model that answers from here on."),
    _shown("again", "r", "again", "Ask the question again: a new branch."),
    _shown(
        "edit", "e", "edit", "Edit the question and send it as a new branch; the old one stays."
    ),
    _shown("copy", "y", "copy", "Copy the answer, or the turn that is marked."),
    _shown("system", "s", "system", "Choose a saved system prompt, or write one."),
    _shown("sampling", "t", "sampling", "Set temperature, top_p, seed and the like."),
    _quiet("thinking", "T", "thinking", "Think: auto, off, low, high."),
    _quiet("previous_branch", "left_square_bracket", "branch before", "Show the branch before."),
    _quiet("next_branch", "right_square_bracket", "next branch", "Show the next branch."),
    _quiet("next_turn", "J", "next turn", "Mark the next turn.", "turn_cursor(1)"),
    _quiet("previous_turn", "K", "turn before", "Mark the turn before.", "turn_cursor(-1)"),
    _quiet("copy_all", "Y", "copy all", "Copy the whole chat, as it is shown."),
    _quiet("copy_block", "b", "copy code", "Copy a block of code of the answer."),
    _quiet("thought", "o", "thought", "Open the thought of the answer, or fold it."),
    _quiet("thoughts", "O", "all thoughts", "Open all thoughts, or fold them."),
    _quiet("private", "N", "private", "Begin a private chat, which is never written."),
    _quiet("delete", "x", "delete", "Delete the chat; z brings it back for 30 days."),
    _quiet("rename", "R", "rename", "Rename the chat."),
    _quiet("export", "E", "export", "Write the chat to a file: Markdown, or JSON of all branches."),
    _quiet("find", "slash", "find", "Find chats by words in title and text; model:NAME by model."),
    _quiet("reload", "L", "more context", "Reload the model with twice the context."),
    _quiet("scroll_down", "j,down", "down", "Scroll down.", "scroll(1)"),
    _quiet("scroll_up", "k,up", "up", "Scroll up.", "scroll(-1)"),
    _quiet("page_down", "ctrl+d,pagedown", "page down", "Scroll half a page down.", "turn(0.5)"),
    _quiet("page_up", "ctrl+u,pageup", "page up", "Scroll half a page up.", "turn(-0.5)"),
    _quiet("first", "g,home", "first", "Go to the first question."),
    _quiet("last", "G,end", "last", "Go to the end, and follow the answer."),
)

LIST_COMMANDS: tuple[Command, ...] = (
    _shown("open", "enter", "open", "Open the chat."),
    _shown("delete", "x", "delete", "Delete the chat; z brings it back."),
    _shown("rename", "R", "rename", "Rename the chat."),
    _shown("new", "n", "new", "Begin a new chat."),
    _shown("find", "slash", "find", "Find chats by words."),
    _shown("chats", "c", "close", "Hide the list."),
)
"""What the footer shows while the list of chats has the focus."""
