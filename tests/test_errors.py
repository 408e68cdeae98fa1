"""The error tree: what its drawing promises is what the classes are."""

from __future__ import annotations

import inspect
import re

import pytest

from patchwise import errors


def drawn_tree() -> dict[str, str]:
    """Child to parent, as drawn in the module's docstring."""
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([│├└─ ]*)([A-Z]\w+)(?: {2,}|$)", line)
        if match and match[2] in vars(errors):
            depth = len(match[1]) // 4
            path[depth:] = [match[2]]
            if depth:
                parents[match[2]] = path[depth - 1]
    return parents


def defined_errors() -> dict[str, type[BaseException]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, BaseException) and value.__module__ == errors.__name__
    }


def test_the_drawing_is_the_tree() -> None:
    actual = {name: kind.__bases__[0].__name__ for name, kind in defined_errors().items() if name != "PatchwiseError"}
    assert drawn_tree() == actual


def test_every_error_is_exported() -> None:
    assert sorted(defined_errors()) == errors.__all__


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_is_one_of_ours_and_says_when(name: str) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, errors.PatchwiseError)
    assert "__doc__" in vars(kind) and kind.__doc__


@pytest.mark.parametrize("kind", [errors.UsageError, errors.BoxError, errors.RegionsError])
def test_usage_errors_are_value_errors(kind: type[errors.UsageError]) -> None:
    assert issubclass(kind, ValueError)


def test_an_image_error_is_its_name_and_its_reason() -> None:
    error = errors.ImageUnreadable("a/b.jpg", "no such file")
    assert (error.name, error.reason, str(error)) == ("a/b.jpg", "no such file", "a/b.jpg: no such file")


def test_a_missing_extra_names_the_install_command() -> None:
    error = errors.MissingExtra("the demo", "demo")
    assert "the demo" in str(error)
    assert "pip install 'patchwise[demo]'" in str(error)
    assert error.extra == "demo"
