"""The terminal of a program, taken away."""

from __future__ import annotations

import pexpect  # type: ignore[import-untyped] # it has no types


def hang_up(child: pexpect.spawn) -> None:
    """Close the terminal of a child, and nothing else; `pexpect` would end the child with it.

    By the file object that holds it: that would otherwise close the same number once more when it
    is collected, by then the descriptor of something else in this process.
    """
    child.ptyproc.fileobj.close()
    child.ptyproc.closed, child.ptyproc.fd = True, -1
    child.closed, child.child_fd = True, -1
