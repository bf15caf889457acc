"""Memory that a model and its context take on each device, as llama.cpp counts it.

llama.cpp's log does not show it: in a plan, its lines about weights and caches say 0.00 MiB for
every device. The counts come from `llama_get_memory_breakdown` (llama-ext.h; in llama-context.cpp
as `llama_context::memory_breakdown`), which returns bytes by buffer type in a C++ `std::map`, for a
plan as for a load. There is no function for C, so the map is read as libstdc++ lays it out in
memory (`_Rb_tree_node_base`, stl_tree.h). Everything that is read is checked; where it is not as
expected, or llama.cpp is linked with another C++ library, `NotKnown` is raised.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

BREAKDOWN = "_Z26llama_get_memory_breakdownPK13llama_context"
"""`llama_get_memory_breakdown(const llama_context *)`, as C++ compilers name it."""
LIBSTDCXX = "_ZSt18_Rb_tree_incrementPKSt18_Rb_tree_node_base"
"""A function of libstdc++'s `std::map`, which no other C++ library has."""
DELETE = "_ZdlPv"
"""`operator delete(void *)`: the nodes of the map are given back with it."""

NODES = 256
"""Buffer types at most: each device has two or three."""
LEAST_ADDRESS = 1 << 12
"""No memory lies below: the first page is never mapped."""

Place = Literal["machine", "gpu", "unknown"]
"""Where a device's memory is: the machine's own, the device's, or not known."""

_GPU, _IGPU, _META = 1, 2, 4
"""`enum ggml_backend_dev_type`, ggml-backend.h; 0 is the CPU, 3 an accelerator without memory."""
_OWN = {"CUDA", "ROCm", "MUSA", "Vulkan", "SYCL", "CANN", "RPC"}
"""Backends whose devices of the type GPU have memory of their own; integrated ones have a type of
their own there (IGPU). RPC's memory is another machine's."""
_SHARED = {"MTL"}
"""Backends that call a GPU what has the machine's memory: Metal."""


class NotKnown(Exception):
    """The bytes of each device are not known; the message says why, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Count:
    """Bytes that llama.cpp takes of one buffer type (`llama_memory_breakdown_data`)."""

    buffer_type: int
    """`ggml_backend_buffer_type_t`, an address."""
    weights: int
    kv: int
    """KV cache and recurrent state."""
    compute: int


@dataclass(frozen=True, slots=True)
class Device:
    """A device of ggml."""

    handle: int
    """`ggml_backend_dev_t`, an address."""
    name: str
    is_gpu: bool
    """Whether models are put there: a GPU, integrated or not."""
    place: Place


class _Map(ctypes.Structure):
    """A `std::map` by value: comparison, colour, root, leftmost, rightmost, number of nodes.

    Larger than 16 bytes, so the callee writes it where the caller says, as it does for every class
    with a destructor (Itanium C++ ABI, 3.1.3).
    """

    _fields_ = [("words", ctypes.c_uint64 * 6)]


def read_map(words: Sequence[int]) -> tuple[list[Count], list[int]]:
    """The entries of a `std::map` of libstdc++ in order, and the addresses of their nodes. Pure.

    A node is {colour, parent, left, right, key, weights, kv, compute}, 8 bytes each. Nothing is
    read through an address that cannot be one, and no more nodes than the map says it has.

    Args:
        words: The six words of the map.

    Raises NotKnown where it is no such map.
    """
    _, _, node, first, last, count = words
    parent: int | None = None
    path: list[int] = []
    counts: list[Count] = []
    addresses: list[int] = []
    if not 0 < count <= NODES:
        raise NotKnown(f"llama.cpp tells of {count} kinds of memory")
    while node or path:
        while node:
            if node < LEAST_ADDRESS or node % 8 or len(path) + len(addresses) >= count:
                raise NotKnown("what llama.cpp tells is laid out in another way")
            above, left = (ctypes.c_uint64 * 3).from_address(node)[1:]
            if parent is not None and above != parent:  # the root's is the map, which has moved
                raise NotKnown("what llama.cpp tells is laid out in another way")
            path.append(node)
            parent, node = node, left
        parent = path.pop()
        addresses.append(parent)
        node, *values = (ctypes.c_uint64 * 5).from_address(parent + 24)
        counts.append(Count(*values))
    keys = [found.buffer_type for found in counts]
    ordered = all(a < b for a, b in pairwise(keys))
    if len(addresses) != count or (first, last) != (addresses[0], addresses[-1]) or not ordered:
        raise NotKnown("what llama.cpp tells is laid out in another way")
    return counts, addresses


class Devices:
    """The devices of ggml in this process, and the memory taken on them."""

    def __init__(self, c: Any) -> None:
        """Bind the functions. Raises NotKnown where this llama.cpp does not have them.

        Args:
            c: llama.h, as llama-cpp-python binds it.
        """
        self._library: Any = getattr(c, "_lib", None)
        pointer = ctypes.c_void_p
        try:
            self._count = self._bind("ggml_backend_dev_count", ctypes.c_size_t)
            self._get = self._bind("ggml_backend_dev_get", pointer, ctypes.c_size_t)
            self._name = self._bind("ggml_backend_dev_name", ctypes.c_char_p, pointer)
            self._type = self._bind("ggml_backend_dev_type", ctypes.c_int, pointer)
            self._registry = self._bind("ggml_backend_dev_backend_reg", pointer, pointer)
            self._backend = self._bind("ggml_backend_reg_name", ctypes.c_char_p, pointer)
            self._is_host = self._bind("ggml_backend_buft_is_host", ctypes.c_bool, pointer)
            self._device = self._bind("ggml_backend_buft_get_device", pointer, pointer)
        except (AttributeError, TypeError) as error:
            raise NotKnown("this llama.cpp does not tell its devices") from error

    def _bind(self, name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
        function = self._library[name]  # a new object: other users' signatures stay as they are
        function.restype, function.argtypes = result, arguments
        return function  # type: ignore[no-any-return]  # ctypes knows no signatures

    def all(self) -> list[Device]:
        """Every device, the processor among them, in ggml's order."""
        found = []
        for index in range(self._count()):
            handle = self._get(index)
            backend = self._backend(self._registry(handle)).decode("utf-8", "replace")
            name = self._name(handle).decode("utf-8", "replace")
            type_ = self._type(handle)
            is_gpu = type_ in (_GPU, _IGPU, _META)
            found.append(Device(handle, name, is_gpu, place(type_, backend)))
        return found

    def counts(self, context: Any) -> list[Count]:
        """Bytes that a context and its model take, or would take, by buffer type.

        Raises NotKnown where this llama.cpp has no such function, or another data layout.
        """
        if ctypes.sizeof(ctypes.c_void_p) != 8:
            raise NotKnown("this llama.cpp has 32 bits")
        try:
            for needed in (BREAKDOWN, LIBSTDCXX):
                self._library[needed]
            free = self._bind(DELETE, None, ctypes.c_void_p)
            tell = self._bind(BREAKDOWN, _Map, ctypes.c_void_p)
        except AttributeError as error:
            raise NotKnown("this llama.cpp does not tell it") from error
        counts, nodes = read_map(tell(context).words)
        for node in nodes:
            free(node)
        return counts

    def device_of(self, buffer_type: int) -> Device | None:
        """The device whose memory a buffer type is; None where it is the machine's.

        A buffer that a GPU shares with the processor belongs to the GPU, and is the machine's.
        """
        if self._is_host(buffer_type):
            return None
        handle = self._device(buffer_type)
        device = next((found for found in self.all() if found.handle == handle), None)
        if device is None or device.place == "unknown":
            name = "a device" if device is None else device.name
            raise NotKnown(f"llama.cpp does not tell whether {name} has memory of its own")
        return device if device.place == "gpu" else None


def has_gpu(c: Any) -> bool:
    """Whether there is a GPU, integrated or not.

    `llama_supports_gpu_offload` is true for every llama.cpp that was built with RPC, also where
    there is no device at all; it is asked only where ggml's list cannot be had.
    """
    try:
        return any(device.is_gpu for device in Devices(c).all())
    except NotKnown:
        return bool(c.llama_supports_gpu_offload())


def first_gpu(c: Any) -> str:
    """Name of the first GPU with memory of its own; empty where there is none."""
    try:
        return next((d.name for d in Devices(c).all() if d.place == "gpu"), "")
    except NotKnown:
        return ""


def place(type_: int, backend: str) -> Place:
    """Where the memory of a device is, by its type and backend. Pure.

    >>> place(1, "CUDA"), place(1, "MTL"), place(2, "Vulkan"), place(0, "CPU"), place(1, "OpenCL")
    ('gpu', 'machine', 'machine', 'machine', 'unknown')
    """
    if type_ == _GPU and backend not in _SHARED:
        return "gpu" if backend in _OWN else "unknown"
    return "unknown" if type_ == _META else "machine"
