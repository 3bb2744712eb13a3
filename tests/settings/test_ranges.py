"""Ranges of settings: what lies in them, and what is said of what does not."""

import math
from types import SimpleNamespace

import pytest

from genax.core import GenaxError
from genax.settings import base_config
from genax.settings.config import RANGES
from genax.settings.flat import flat
from genax.settings.ranges import (
    AMOUNT,
    COUNT,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Range,
    check_fields,
    check_ranges,
)


@pytest.mark.parametrize(
    ("allowed", "inside", "outside"),
    [
        (COUNT, (1, 7, (1, 2)), (0, -1, 1.5, (), (1, 0), 2**31, "1", True, None)),
        (AMOUNT, (0, 5), (-1, 2**40)),
        (POSITIVE, (1e-9, 3), (0, -0.0, -1.0, math.nan)),
        (NOT_NEGATIVE, (0, 0.5), (-0.1, math.nan)),
        (SHARE, (0, 0.999), (1, 1.5, -0.1)),
        (Range(above=0, most=1), (1, 0.5), (0, 1.01)),
        (Range(empty=True), ((), (-1e9, 5)), ((1, "a"),)),
        (("jit", "pmap"), ("jit",), ("", "Jit")),
    ],
)
def test_what_lies_in_a_range(allowed, inside, outside):
    for value in inside:
        check_ranges({"x": value}, {"x": allowed})
    for value in outside:
        with pytest.raises(GenaxError, match=r"config\.x"):
            check_ranges({"x": value}, {"x": allowed})


@pytest.mark.parametrize(
    ("value", "allowed", "sentence"),
    [
        (0, Range(least=1), "config.x=0 must be at least 1."),
        (2, Range(least=0, below=1), "config.x=2 must be at least 0 and below 1."),
        ((), Range(least=1), "config.x is empty; it needs numbers at least 1."),
        ("a", ("b", "c"), "config.x='a' is none of b, c."),
    ],
)
def test_sentences(value, allowed, sentence):
    with pytest.raises(GenaxError) as error:
        check_ranges({"x": value}, {"x": allowed})
    assert str(error.value) == sentence


def test_settings_that_are_not_there_are_passed_over():
    check_ranges({"x": 1}, {"y": COUNT})


def test_every_number_of_the_loop_has_a_range_that_holds_its_default():
    settings = flat(base_config())
    check_ranges(settings, RANGES)
    numbers = {key for key, value in settings.items() if type(value) in (int, float)}
    assert numbers <= RANGES.keys()


def test_fields_of_a_description():
    description = SimpleNamespace(name="digits", size=0, limit=None)
    check_fields(description, limit=COUNT)
    with pytest.raises(GenaxError, match="of digits: size=0 must be a whole number at least 1"):
        check_fields(description, size=COUNT)
