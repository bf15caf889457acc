import pytest

from core.errors import BY_CODE, DeckError, NotEnoughMemory, from_info, to_info
from core.schema import ErrorInfo


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
