"""Bytes by device: the map of C++ that they are in, what is checked, and what is corrected."""

import ctypes
import doctest
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from modeldeck.core.runtime.engines.llama import devices
from modeldeck.core.runtime.engines.llama.devices import Count, NotKnown, read_map
from modeldeck.core.runtime.engines.llama.log import Buffers
from modeldeck.core.runtime.engines.llama.split import Part, Split, larger, split, together
from modeldeck.core.schema import DeviceBytes

ROOT = Path(__file__).parents[5]


class Tree:
    """A `std::map` of libstdc++ in memory, made by hand.

    Node 0 is the root; the nodes are {colour, parent, left, right, key, weights, kv, compute}.
    """

    def __init__(self, shape: list[tuple[int | None, int | None]], keys: list[int]) -> None:
        self.nodes = [(ctypes.c_uint64 * 8)() for _ in shape]
        at = [ctypes.addressof(node) for node in self.nodes]
        for i, (left, right) in enumerate(shape):
            self.nodes[i][4:8] = [keys[i], 10 * keys[i], 10 * keys[i] + 1, 10 * keys[i] + 2]
            for slot, child in ((2, left), (3, right)):
                if child is not None:
                    self.nodes[i][slot] = at[child]
                    self.nodes[child][1] = at[i]
        self.nodes[0][1] = 0xDEAD0  # the map where it was made, which is gone
        order = sorted(range(len(keys)), key=keys.__getitem__)
        self.at = at
        self.order = [at[i] for i in order]
        self.words = [0xBEEF, 1, at[0], self.order[0], self.order[-1], len(shape)]


SHAPES: list[tuple[list[tuple[int | None, int | None]], list[int]]] = [
    ([(None, None)], [4]),
    ([(1, 2), (None, None), (None, None)], [4, 2, 6]),
    ([(None, 1), (None, 2), (None, None)], [1, 2, 3]),
    ([(1, None), (2, None), (None, None)], [3, 2, 1]),
    ([(1, 2), (None, 3), (4, None), (None, None), (None, None)], [40, 10, 80, 20, 60]),
]


@pytest.mark.parametrize(("shape", "keys"), SHAPES)
def test_a_map_is_read_in_order(
    shape: list[tuple[int | None, int | None]], keys: list[int]
) -> None:
    tree = Tree(shape, keys)
    counts, nodes = read_map(tree.words)
    assert counts == [Count(key, 10 * key, 10 * key + 1, 10 * key + 2) for key in sorted(keys)]
    assert nodes == tree.order, "those are given back"


def fresh() -> Tree:
    return Tree(*SHAPES[-1])


def spoilt(**words: int) -> Tree:
    tree = fresh()
    places = {"root": 2, "first": 3, "last": 4, "count": 5}
    for name, value in words.items():
        tree.words[places[name]] = value
    return tree


def changed(node: int, word: int, value: int) -> Tree:
    tree = fresh()
    tree.nodes[node][word] = value
    return tree


def in_a_circle() -> Tree:
    tree = fresh()
    tree.nodes[3][3] = tree.at[0]
    tree.nodes[0][1] = tree.at[3]
    return tree


@pytest.mark.parametrize(
    "tree",
    [
        spoilt(count=0),
        spoilt(count=4),
        spoilt(count=6),
        spoilt(count=1 << 40),
        spoilt(root=0),
        spoilt(root=8),
        spoilt(root=fresh().at[0] + 4),
        spoilt(first=8),
        spoilt(last=8),
        changed(1, 1, 16),  # another parent
        changed(1, 2, 3),  # no address
        changed(3, 4, 90),  # keys out of order
        changed(3, 4, 10),  # a key twice
        in_a_circle(),
        Tree([(None, None)], [1]).words and spoilt(count=5, root=0, first=0, last=0),
    ],
)
def test_what_is_no_such_map_is_not_known(tree: Tree) -> None:
    with pytest.raises(NotKnown):
        read_map(tree.words)


ON_CPU = """
import json, os, sys
from modeldeck.core.runtime.engines.base import Flag
from modeldeck.core.runtime.engines.heap import heap_bytes
from modeldeck.core.runtime.engines.llama.engine import LlamaEngine
from modeldeck.core.runtime.engines.llama.devices import Devices
from modeldeck.core.runtime.engines.llama.log import buffers
from modeldeck.core.schema import LoadOptions

engine = LlamaEngine(Flag())
engine.hello()
loader, c = engine._loader, engine._c
devices = Devices(c)
found = {"devices": [[d.name, d.is_gpu, d.place] for d in devices.all()]}
options = LoadOptions(context_length=1024, mmap=False)
for kind in ("plan", "load"):
    engine._log.begin()
    of = loader.plan_parameters if kind == "plan" else loader.model_parameters
    parameters = of(options)
    model = loader.open(sys.argv[1], parameters)
    wanted = loader.context_parameters(model, options, 1024, embedding=False)
    context, _ = loader.make_context(model, options, wanted)
    counts = [devices.counts(context) for _ in range(100)]
    before = heap_bytes()
    for _ in range(5000):
        devices.counts(context)
    grown = (heap_bytes() or 0) - (before or 0)
    logged = buffers(engine._log.lines)
    found[kind] = {
        "grown": grown,
        "same": all(count == counts[0] for count in counts),
        "machine": all(devices.device_of(one.buffer_type) is None for one in counts[0]),
        "counts": [sum(sizes) for sizes in zip(*[(n.weights, n.kv, n.compute) for n in counts[0]])],
        "logged": [logged.kv_bytes, logged.compute_bytes],
        "weights": c.llama_model_size(model),
        "offload_kqv": wanted.offload_kqv,
    }
    loader.release()
print(json.dumps(found))
"""


def test_a_real_context_takes_what_it_logs(tiny: Path) -> None:
    """Of llama.cpp as it is installed, on the processor: the map is read as it is in memory."""
    script: list[str | Path] = [sys.executable, "-c", ON_CPU, tiny]
    done = subprocess.run(script, capture_output=True, cwd=ROOT, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert ["CPU", False, "machine"] in found["devices"]
    for kind in ("plan", "load"):
        one = found[kind]
        weights, kv, compute = one["counts"]
        assert one["same"]
        assert one["grown"] < 100_000, "the nodes are given back: 64 bytes each, and more"
        assert one["machine"]
        assert one["logged"] == [
            pytest.approx(kv, abs=1 << 14),
            pytest.approx(compute, abs=1 << 14),
        ]
        assert one["weights"] <= weights < 1.3 * one["weights"]
        assert one["offload_kqv"], "llama.cpp plans it wrongly otherwise"
    assert found["plan"]["counts"] == found["load"]["counts"]


MIB = 1 << 20
LOGGED = Buffers(kv_bytes=12 * MIB, compute_bytes=9 * MIB, output_bytes=MIB)
PART = Part(
    counts=(
        (None, Count(1, 40 * MIB, 4 * MIB, 2 * MIB)),
        ("CUDA0", Count(2, 60 * MIB, 8 * MIB, 6 * MIB)),
        (None, Count(3, 5 * MIB, 0, MIB)),
    ),
    order=("CUDA0", "CUDA1"),
    logged=LOGGED,
    model_bytes=100 * MIB,
    batch=512,
    width=1024,
)


def device(name: str, weights: int, kv: int, compute: int) -> DeviceBytes:
    return DeviceBytes(
        name=name, weights_bytes=weights * MIB, kv_bytes=kv * MIB, compute_bytes=compute * MIB
    )


def test_counts_are_summed_by_device() -> None:
    found = split(PART)
    assert found.machine == device("", 45, 4, 3)
    assert found.devices == (device("CUDA0", 60, 8, 6),)
    assert found.exact


def on_two(*, whole: bool, pipelined: bool = False) -> Part:
    counts = (*PART.counts[:1], PART.counts[1], ("CUDA1", Count(3, 5 * MIB, 0, MIB)))
    return replace(
        PART,
        counts=counts,
        order=("CUDA1", "CUDA0"),
        logged=replace(LOGGED, all_offloaded=whole, pipelined=pipelined),
    )


@pytest.mark.parametrize(
    ("part", "compute", "exact"),
    [
        (on_two(whole=False), [1, 6], True),
        # An activation is 512 tokens * 1024 * 4 bytes: 2 MiB. Two for each device but the first.
        (on_two(whole=True), [1, 10], False),
        (on_two(whole=True, pipelined=True), [1, 6], False),
        (replace(PART, logged=replace(LOGGED, all_offloaded=True)), [6], True),
    ],
)
def test_all_layers_on_several_devices_may_take_activations_more(
    part: Part, compute: list[int], exact: bool
) -> None:
    found = split(part)
    assert [d.compute_bytes for d in found.devices] == [count * MIB for count in compute]
    assert found.exact is exact


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (replace(PART, model_bytes=106 * MIB), "size of the model"),
        (replace(PART, model_bytes=30 * MIB), "size of the model"),
        (replace(PART, logged=replace(LOGGED, kv_bytes=13 * MIB)), "KV cache"),
        (replace(PART, logged=replace(LOGGED, compute_bytes=8 * MIB)), "work buffers"),
        (replace(PART, batch=31), "fewer than 32 tokens"),
    ],
)
def test_what_does_not_fit_together_is_not_known(part: Part, why: str) -> None:
    with pytest.raises(NotKnown, match=why):
        split(part)


@pytest.mark.parametrize(
    "part",
    [
        replace(PART, model_bytes=106 * MIB, logged=replace(LOGGED, unused_bytes=MIB)),
        replace(PART, logged=replace(LOGGED, kv_bytes=12 * MIB + 5000)),  # it tells hundredths
        replace(PART, batch=32),
        replace(PART, batch=31, logged=replace(LOGGED, all_offloaded=True)),
    ],
)
def test_what_fits_together_is_known(part: Part) -> None:
    assert split(part) == replace(split(PART), exact=True)


def test_a_gpu_that_gets_nothing_is_left_out() -> None:
    nothing = (("CUDA1", Count(9, 0, 0, 0)),)
    assert split(replace(PART, counts=PART.counts + nothing)) == split(PART)


def test_models_in_one_process_are_added_by_device() -> None:
    small = Split(machine=device("", 1, 1, 1), devices=(device("CUDA1", 2, 2, 2),), exact=False)
    both = together([split(PART), small, split(PART)])
    assert both.machine == device("", 91, 9, 7)
    assert both.devices == (device("CUDA0", 120, 16, 12), device("CUDA1", 2, 2, 2))
    assert not both.exact


def test_of_two_plans_of_a_model_each_device_has_the_larger_buffer() -> None:
    one = Split(machine=device("", 9, 1, 5), devices=(device("CUDA0", 9, 1, 5),))
    other = Split(
        machine=device("", 9, 2, 7), devices=(device("CUDA0", 9, 2, 4), device("CUDA1", 1, 1, 1))
    )
    found = larger(one, other)
    assert found.machine == device("", 9, 1, 7)
    assert found.devices == (device("CUDA0", 9, 1, 5),)
    assert not larger(one, replace(other, exact=False)).exact


@dataclass
class Library:
    """A shared library without the functions that are asked for."""

    def __getitem__(self, name: str) -> object:
        raise AttributeError(name)


@dataclass
class Bindings:
    offload: bool
    _lib: object = None

    def llama_supports_gpu_offload(self) -> bool:
        return self.offload


@pytest.mark.parametrize("offload", [True, False])
@pytest.mark.parametrize("library", [Library(), None])
def test_where_devices_cannot_be_listed_llama_is_asked(offload: bool, library: object) -> None:
    c = Bindings(offload, library)
    assert devices.has_gpu(c) is offload
    with pytest.raises(NotKnown):
        devices.Devices(c)


def test_the_worked_example_holds() -> None:
    result = doctest.testmod(devices)
    assert result.attempted
    assert not result.failed
