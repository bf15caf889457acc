"""An RPC server of llama.cpp on this machine's processor.

rpc_server.py RPC GGML_FOLDER HOST PORT
"""

import ctypes
import sys

library, folder, host, port = sys.argv[1:]
ggml = ctypes.CDLL(f"{folder}/libggml.so.0")
by_type = ggml.ggml_backend_dev_by_type
by_type.restype, by_type.argtypes = ctypes.c_void_p, [ctypes.c_int]
devices = (ctypes.c_void_p * 1)(by_type(0))  # GGML_BACKEND_DEVICE_TYPE_CPU
start = ctypes.CDLL(library).ggml_backend_rpc_start_server
start.restype = None
start.argtypes = [
    ctypes.c_char_p,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.c_size_t,
    ctypes.c_void_p,
]
start(f"{host}:{port}".encode(), None, 1, 1, devices)
