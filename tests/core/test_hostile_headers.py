"""Headers of files and answers of hubs, mutated at random: only declared errors, and never slow.

Seeded, so that what fails once fails again. The time is that of the thread: a busy machine does not
make it longer.
"""

from __future__ import annotations

import json
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modeldeck.core.catalog import records
from modeldeck.core.demo.model_writer import write_gguf, write_mlx
from modeldeck.core.errors import Corrupt, DeckError
from modeldeck.core.formats import gguf_parser, mlx_folder, safetensors

SLOWEST_S = 1.0

COUNTS = [0, 1, 2, 31, 255, 1024, 1025, 65_535, (1 << 22) + 1, (1 << 31) - 1, (1 << 32) - 1]
COUNTS += [(1 << 63) - 1, 1 << 63, (1 << 64) - 1]

Check = Callable[[bytes], object]


def mutated(random: random.Random, data: bytes) -> bytes:
    """The bytes with one to four things done to them."""
    made = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(made) + 1)
        match random.randrange(7):
            case 0 if made:
                made[at % len(made)] ^= 1 << random.randrange(8)
            case 1:
                made[at : at + 8] = struct.pack("<Q", random.choice(COUNTS))
            case 2:
                made[at : at + 4] = struct.pack("<I", random.choice(COUNTS) & 0xFFFFFFFF)
            case 3:
                del made[at : at + random.randint(1, 64)]
            case 4:
                made[at:at] = random.randbytes(random.randint(1, 64))
            case 5:
                made[at:at] = made[at : at + random.randint(1, 512)]
            case _:
                del made[max(1, at) :]
    return bytes(made)


def rewritten(random: random.Random, document: Any, depth: int = 0) -> Any:
    """The JSON with one value somewhere replaced by another kind of value."""
    odd: list[Any] = [
        None,
        True,
        -1,
        1 << 70,
        0.5,
        "",
        "x" * 300,
        "../..",
        [],
        {},
        [[[]]],
        {"a": {}},
    ]
    if (
        depth > 4
        or random.random() < 0.15
        or not document
        or not isinstance(document, (dict, list))
    ):
        return random.choice(odd)
    if isinstance(document, dict):
        key = random.choice(list(document))
        return {**document, key: rewritten(random, document[key], depth + 1)}
    at = random.randrange(len(document))
    return [*document[:at], rewritten(random, document[at], depth + 1), *document[at + 1 :]]


def survive(check: Check, inputs: Callable[[random.Random], bytes], count: int, seed: int) -> int:
    """Check a number of inputs; return how many were accepted."""
    source, sound = random.Random(seed), 0
    for number in range(count):
        data, began = inputs(source), time.thread_time()
        try:
            check(data)
            sound += 1
        except DeckError:
            pass
        except Exception as error:
            raise AssertionError(f"input {number} of seed {seed}: {data[:2000]!r}") from error
        assert time.thread_time() - began < SLOWEST_S, f"input {number} of seed {seed}"
    return sound


def outcome(pieces: list[bytes]) -> object:
    """The header that comes in these pieces, None, or the words of the refusal."""
    parser, found = gguf_parser.Parser(), None
    try:
        for piece in pieces:
            if (found := parser.feed(piece)) is not None:
                break
    except DeckError as error:
        return error.message
    return found


def test_mutated_gguf_headers(tmp_path: Path) -> None:
    (path,) = write_gguf(tmp_path / "m.gguf", "F16")
    found = gguf_parser.read(path)
    # Without its vocabulary, so that what is changed is what is read.
    pairs = [
        struct.pack("<Q", len(key)) + key.encode() + struct.pack("<II", 4, value)
        for key, value in found.metadata.items()
        if type(value) is int and 0 <= value < 1 << 32
    ]
    name = b"general.architecture"
    pairs.append(struct.pack("<Q", 20) + name + struct.pack("<IQ", 8, 5) + b"llama")
    strings = (struct.pack("<Q", 3) + b"abc") * 1100
    pairs.append(struct.pack("<Q", 1) + b"t" + struct.pack("<IIQ", 9, 8, 1100) + strings)
    pairs.append(struct.pack("<Q", 1) + b"h" + struct.pack("<IIQ", 9, 4, 9) + bytes(36))
    tensors = [
        struct.pack("<Q", len(t.name))
        + t.name.encode()
        + struct.pack(f"<I{len(t.shape)}QIQ", len(t.shape), *t.shape, t.type, t.offset)
        for t in found.tensors
    ]
    counts = struct.pack("<IQQ", 3, len(tensors), len(pairs))
    # The long array comes last: most of the changes are to be elsewhere.
    data = b"GGUF" + counts + b"".join([*pairs[:-2], pairs[-1], pairs[-2], *tensors]) + bytes(64)
    assert gguf_parser.parse(data) is not None

    def check(changed: bytes) -> None:
        """In pieces it must be what it is as a whole."""
        whole, pieces = outcome([changed]), range(0, len(changed), 1500)
        assert outcome([changed[at : at + 1500] for at in pieces]) == whole
        if isinstance(whole, str):
            raise Corrupt(whole)

    assert survive(check, lambda source: mutated(source, data), 10_000, seed=1) > 100


def test_mutated_safetensors_headers(tmp_path: Path) -> None:
    write_mlx(tmp_path)
    path = tmp_path / "model.safetensors"
    with path.open("rb") as file:
        length = file.read(8)
        table = file.read(struct.unpack("<Q", length)[0])
    size = path.stat().st_size
    document = json.loads(table)

    def changed(source: random.Random) -> bytes:
        if source.random() < 0.5:
            return mutated(source, length + table)
        text = json.dumps(rewritten(source, document)).encode()
        return struct.pack("<Q", len(text)) + text

    assert safetensors.read_header(length + table, size) is not None
    survive(lambda data: safetensors.read_header(data, size), changed, 6000, seed=2)


def test_mutated_configurations_and_indexes(tmp_path: Path) -> None:
    write_mlx(tmp_path, shard_bytes=1 << 20)
    config = json.loads((tmp_path / "config.json").read_text())
    config["layer_types"] = ["full_attention"] * 4
    index = json.loads((tmp_path / safetensors.INDEX).read_text())
    for read, document in ((mlx_folder.read_config, config), (safetensors.read_index, index)):
        text = json.dumps(document).encode()

        def changed(source: random.Random, text: bytes = text, whole: Any = document) -> bytes:
            if source.random() < 0.5:
                return mutated(source, text)
            return json.dumps(rewritten(source, whole)).encode()

        assert survive(read, changed, 2000, seed=3) > 10


def test_mutated_answers_of_a_hub() -> None:
    sibling = {"rfilename": "m-Q8_0.gguf", "size": 9, "blobId": "1" * 40}
    large = {**sibling, "rfilename": "m-F16.gguf", "lfs": {"sha256": "2" * 64, "size": 9}}
    record = {
        "id": "a/b-7B",
        "sha": "0" * 40,
        "downloads": 7,
        "likes": 1,
        "lastModified": "2026-01-01T00:00:00.000Z",
        "gated": "auto",
        "tags": ["gguf", "license:mit"],
        "cardData": {"license": "mit"},
        "siblings": [sibling, large, {**sibling, "rfilename": "mmproj-F16.gguf"}],
    }
    documents: list[tuple[Check, Any]] = [
        (lambda data: records.hits("https://hub", data, 30), [record, record]),
        (lambda data: records.repository("https://hub", data), record),
    ]
    for read, document in documents:
        text = json.dumps(document).encode()
        read(text)

        def changed(source: random.Random, text: bytes = text, whole: Any = document) -> bytes:
            if source.random() < 0.5:
                return mutated(source, text)
            return json.dumps(rewritten(source, whole)).encode()

        assert survive(read, changed, 2000, seed=4) > 100
