"""The packages that import their modules when a name is first asked for have every name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

from modeldeck.core import client, schema

ALONE = {"clock", "overhead", "protocol", "state", "media_support", "summary", "units"}
"""Modules of the schema that are imported by their own name."""


def test_every_name_of_the_schema_comes_from_the_module_that_is_said() -> None:
    assert schema._NAMES
    for module, names in schema._NAMES.items():
        defined = importlib.import_module(f"modeldeck.core.schema.{module}")
        for name in names.split():
            assert getattr(schema, name) is getattr(defined, name)


def test_every_record_of_the_schema_is_one_of_its_names() -> None:
    modules = {found.name for found in pkgutil.iter_modules(schema.__path__)} - ALONE
    assert modules == set(schema._NAMES)
    for module in modules:
        defined = importlib.import_module(f"modeldeck.core.schema.{module}")
        classes = inspect.getmembers(defined, inspect.isclass)
        own = {name for name, kind in classes if kind.__module__ == defined.__name__}
        assert own <= set(schema._NAMES[module].split())


def test_every_name_of_the_client_library_is_there() -> None:
    assert set(client.__all__) == set(client._MODULES)
    for name in client.__all__:
        assert getattr(client, name).__name__ == name


@pytest.mark.parametrize("package", [schema, client])
def test_a_name_that_is_not_there_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = package.Nothing
