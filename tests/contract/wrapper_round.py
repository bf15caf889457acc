"""The published wrapper, whichever version is installed here, as a program would use it.

Run as a program: `python wrapper_round.py PORT MODEL`. It prints one line of JSON that says what
came back. The wrapper's own scan for a server is narrowed to one port: another server may run on
this machine.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import urllib.request
from typing import Any

from pieces_os_client import __version__
from pieces_os_client.wrapper import PiecesClient, client

PATIENCE_S = 60.0


def ask(pieces: Any, query: str) -> list[Any]:
    """The status at the end and the whole answer."""
    frames: queue.Queue[Any] = queue.Queue()
    pieces.copilot.ask_stream_ws.on_message_callback = frames.put
    pieces.copilot.stream_question(query)
    text = ""
    while True:
        frame = frames.get(timeout=PATIENCE_S)
        if frame.question:
            text += "".join(answer.text for answer in frame.question.answers.iterable)
        if frame.status in ("COMPLETED", "FAILED"):
            return [str(frame.status.value), text or frame.error_message]


def drive(port: int, model: str) -> dict[str, Any]:
    """Construct, list, choose, ask."""
    vars(client)["range"] = lambda *_: (port,)
    # It gives a server a tenth of a second to answer, which is little on a machine at work.
    urlopen = urllib.request.urlopen
    vars(urllib.request)["urlopen"] = lambda *a, **k: urlopen(*a, **{**k, "timeout": PATIENCE_S})
    pieces: Any = PiecesClient()
    told: dict[str, Any] = {"version": __version__, "server": pieces.version}
    told["default"] = pieces.model_name
    told["models"] = pieces.available_models_names
    told["user"] = pieces.user_api.user_snapshot().user.name
    told["application"] = pieces.connector_api.connect(pieces._seeded_connector).application.id
    told["again"] = pieces.connector_api.connect(pieces._seeded_connector).application.id
    told["placeholder"] = ask(pieces, "hello?")
    pieces.model_name = model
    told["answer"] = ask(pieces, "Please count.")
    return told


if __name__ == "__main__":
    print(json.dumps(drive(int(sys.argv[1]), sys.argv[2])), flush=True)
    os._exit(0)  # the wrapper's own end waits three seconds for each of its sockets
