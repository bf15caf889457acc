"""Private members of Textual that the dashboard uses; none of them is promised to stay.

Tested with Textual 8.2.8. pyproject.toml excludes the next major version, and
`tests/test_private_members.py` fails when a member is gone, or when another one is used.
"""

from __future__ import annotations

from collections.abc import Mapping

MODULES = (
    "textual._compositor.ChopsUpdate",
    "textual._compositor.CompositorUpdate",
    "textual._compositor.LayoutUpdate",
    "textual._xterm_parser.XTermParser",
)
"""What Textual hands to `App._display`, taken apart by `diff_renderer.pieces`; and what reads the
keys of a terminal, for `terminal_driver`."""

INHERITED: Mapping[str, Mapping[str, str]] = {
    "App": {
        # diff_renderer.DiffRenderer
        "_display": "Overridden: sends an update of the screen to the terminal.",
        "_check_resize": "Overridden: applies a new terminal size.",
        "_resize_event": "Read: the size event to be applied, None when there is none.",
        "_running": "Read: Textual sends nothing before the app runs.",
        "_batch_count": "Read: Textual sends nothing inside `batch_update`.",
        "_previous_cursor_position": "Read: where the terminal's cursor was put last.",
        # last_resort.LastResortApp
        "_handle_exception": "Overridden: called with an error that was not caught, ends the app.",
        "_fatal_error": "Overridden: prints a traceback, with the values of variables.",
        "_exception": "Read and set: the error that `run_test` raises in the end.",
        "_exit_renderables": "Extended: what is printed after the app.",
        "_close_messages_no_wait": "Called: ends the app.",
        # app.Dashboard
        "_driver": "Read: writes terminal notifications; None without a terminal.",
    },
    "LinuxDriver": {
        # terminal_driver.TerminalDriver
        "_app": "Read: the app that a new size is posted to.",
        "_file": "Read and set: the terminal's output.",
        "_writer_thread": "Read: empties the queue of output; None or dead while it is stopped.",
        "_key_thread": "Read: reads the keyboard; waited for when reading ends.",
        "_sigcont_application": "Overridden: handler of SIGCONT.",
        "_must_signal_resume": "Read: whether the app was suspended by SIGTSTP.",
        "_in_band_window_resize": "Read: whether the terminal reports its size in its input.",
        "_get_terminal_size": "Called: width and height in cells.",
    },
}
"""Members of Textual's classes that our subclasses use: class, member, and use."""

REPLACED: Mapping[str, Mapping[str, str]] = {
    "MessagePump": {
        # last_resort
        "_dispatch_message": "Replaced: an error in it ends the loop of the widget, or of the app.",
    },
    "XTermParser": {
        # terminal_driver
        "_sequence_to_key_events": "Replaced: `esc` before a key is told as a key of its own.",
    },
}
"""Members of Textual's classes that are replaced for all of their objects."""
