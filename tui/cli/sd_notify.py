"""Notifies systemd that the service has started."""

from __future__ import annotations

import socket
from collections.abc import MutableMapping
from contextlib import suppress


def tell_ready(environ: MutableMapping[str, str]) -> None:
    """Say that the service answers (sd_notify(3), "READY=1"); nothing without $NOTIFY_SOCKET.

    The address is taken out of the environment: what this process starts has nothing to say.
    """
    address = environ.pop("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    place = f"\0{address[1:]}" if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"READY=1", place)
