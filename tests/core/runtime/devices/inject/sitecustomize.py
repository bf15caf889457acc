"""Gives llama.cpp devices, in every Python process that has this folder in PYTHONPATH.

Python imports a module of this name at its start. It waits for the program to import the bindings
of llama-cpp-python, and then registers the RPC servers that the environment names.
"""

import ctypes
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

BREAKDOWN = "_Z26llama_get_memory_breakdownPK13llama_context"


class _Registering(Loader):
    """Loads the bindings as usual, and registers the servers then."""

    def __init__(self, real: Any) -> None:
        self._real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._real.create_module(spec)  # type: ignore[no-any-return]  # a loader of any kind

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        _register(module)


class _AfterLlama(MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "llama_cpp.llama_cpp":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None:
            spec.loader = _Registering(spec.loader)
        return spec


class _Older:
    """A llama.cpp that does not tell what each device takes."""

    def __init__(self, library: Any) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        if name == BREAKDOWN:
            raise AttributeError(name)
        return getattr(self._library, name)

    def __getitem__(self, name: str) -> Any:
        if name == BREAKDOWN:
            raise AttributeError(name)
        return self._library[name]


def _register(llama: Any) -> None:
    """Add each server: its devices are named RPC0, RPC1 and so on, in the order of the servers."""
    library = ctypes.CDLL(os.environ["TEST_RPC_LIBRARY"])
    add, backend = library.ggml_backend_rpc_add_server, library.ggml_backend_rpc_reg
    add.restype, add.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    backend.restype, backend.argtypes = ctypes.c_void_p, []
    register = llama._lib.ggml_backend_register
    register.restype, register.argtypes = None, [ctypes.c_void_p]
    register(backend())  # as in a llama.cpp that is built with RPC
    for endpoint in os.environ["TEST_RPC_SERVERS"].split():
        register(add(endpoint.encode()))
    if "TEST_RPC_OLDER" in os.environ:
        llama._lib = _Older(llama._lib)


sys.meta_path.insert(0, _AfterLlama())
