"""Everything of modeldeck that works without a terminal: the service, its API, and its client."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("modeldeck")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0.0.0"
