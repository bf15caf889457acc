"""Everything of modeldeck that works without a terminal: the service, its API, and its client."""

__version__: str


def __getattr__(name: str) -> str:
    """The version, looked up when it is first asked for: a status bar has no time for it."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import PackageNotFoundError, version

    try:
        globals()[name] = version("modeldeck")
    except PackageNotFoundError:  # run from a checkout that was never installed
        globals()[name] = "0.0.0"
    return str(globals()[name])
