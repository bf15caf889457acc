"""The model types that the installed mlx-lm supports, without importing it, which takes seconds.

mlx-lm has a module for each type (`mlx_lm/models`), and two tables of aliases (
`MODEL_REMAPPING` and `MODEL_ARCHITECTURE_REMAPPING` in `mlx_lm/utils.py`, `_get_classes`).
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_TABLES = ("MODEL_REMAPPING", "MODEL_ARCHITECTURE_REMAPPING")
_TRIES = 5
"""Of parsing: Python 3.11 counts the depth of all threads together, so that a text that is parsed
while another thread parses one fails now and then with SystemError (python/cpython#106905)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Types:
    """The model types that an mlx-lm supports."""

    modules: frozenset[str]
    names: Mapping[str, frozenset[str]]
    """Modules that an alias may mean, by alias."""

    def knows(self, model_type: str) -> bool:
        """Whether there is a module for this `model_type`."""
        return bool(self.modules & {model_type, *self.names.get(model_type, ())})


@lru_cache(1)
def installed() -> Types | None:
    """The types of the installed mlx-lm; None without one, or where unreadable. Blocks."""
    try:
        spec = find_spec("mlx_lm")
        places = list(spec.submodule_search_locations or ()) if spec is not None else []
        return read(Path(places[0])) if places else None
    except (OSError, ImportError, ValueError, SyntaxError, SystemError) as error:
        logger.info("the model types of mlx-lm are not known: %s", error)
        return None


def read(package: Path) -> Types | None:
    """Read the types of the mlx-lm in this folder; None where its layout is another one.

    Raises OSError, SyntaxError and ValueError for unreadable files.
    """
    modules = frozenset(path.stem for path in (package / "models").glob("*.py"))
    tables = _tables((package / "utils.py").read_text(encoding="utf-8"))
    if not modules or not isinstance(tables.get(_TABLES[0]), dict):
        return None
    names: dict[str, frozenset[str]] = {}
    for table in tables.values():
        for key, module in table.items():
            # By the type alone, or by the type and an architecture.
            name = key[0] if isinstance(key, tuple) and key else key
            names[str(name)] = names.get(str(name), frozenset()) | {str(module)}
    return Types(modules=modules, names=names)


def _tables(source: str) -> dict[str, dict[Any, Any]]:
    """The tables of aliases in the source of `utils.py`."""
    found = {}
    for node in _parsed(source).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in _TABLES and isinstance(table := ast.literal_eval(node.value), dict):
                found[name] = table
    return found


def _parsed(source: str) -> ast.Module:
    """A source as a tree."""
    for _ in range(_TRIES - 1):
        with suppress(SystemError):
            return ast.parse(source)
    return ast.parse(source)
