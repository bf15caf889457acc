import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldeck.core.errors import BY_CODE, DeckError, NotEnoughDisk, NotEnoughMemory, StorageFailed
from modeldeck.core.schema import ErrorInfo
from modeldeck.core.schema.errors import from_info, to_info

ROOT = Path(__file__).parents[2]
WHOLE = {"StorageFailed", "DeckError", "Exception", "BaseException"}
"""Classes that cover every failure of storage."""


@pytest.mark.parametrize("cls", BY_CODE.values())
def test_every_class_survives_the_wire(cls: type[DeckError]) -> None:
    error = from_info(to_info(cls("It broke.", "Mend it.", details=("line 1",))))
    assert type(error) is cls
    assert (error.message, error.remedy, error.details) == ("It broke.", "Mend it.", ("line 1",))
    assert 400 <= cls.status < 600


def test_codes_are_one_per_class() -> None:
    def tree(cls: type[DeckError]) -> list[type[DeckError]]:
        return [cls, *(leaf for sub in cls.__subclasses__() for leaf in tree(sub))]

    assert len(tree(DeckError)) == len(BY_CODE)


def test_an_unknown_code_is_still_an_error_with_its_words() -> None:
    error = from_info(ErrorInfo(code="from_the_future", message="Odd."))
    assert type(error) is DeckError
    assert str(error) == "Odd."


def test_a_person_reads_what_happened_and_what_to_do() -> None:
    assert str(NotEnoughMemory("It is full.", "Unload one.")) == "It is full. Unload one."


def test_a_full_disk_is_handled_wherever_a_storage_failure_is() -> None:
    assert issubclass(NotEnoughDisk, StorageFailed)


MEANT = {("core/downloads/transfer/blobs.py", "_forget")}
"""Functions where a full disk is another matter than other failures, which they pass on."""


def test_nobody_handles_a_full_disk_and_forgets_the_other_failures_of_storage() -> None:
    found = {place for path in sorted((ROOT / "core").rglob("*.py")) for place in half(path)}
    assert found == MEANT


def half(path: Path) -> Iterator[tuple[str, str]]:
    """Functions with a `try` that handles NotEnoughDisk and no class above it."""
    tree = ast.parse(path.read_text())
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Try):
                    names = {name for handler in node.handlers for name in handled(handler)}
                    if "NotEnoughDisk" in names and not names & WHOLE:
                        yield path.relative_to(ROOT).as_posix(), function.name


def handled(handler: ast.ExceptHandler) -> set[str]:
    """Names of what an `except` catches."""
    if handler.type is None:
        return {"BaseException"}
    return {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)}


def test_the_rule_sees_what_breaks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    try:\n        g()\n    except NotEnoughDisk:\n        pass\n")
    assert list(half(bad)) == [("bad.py", "f")]
    bad.write_text(bad.read_text().replace("NotEnoughDisk", "(NotEnoughDisk, DeckError)"))
    assert list(half(bad)) == []
