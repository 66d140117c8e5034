from __future__ import annotations

import dataclasses
import datetime
import enum
import json
import math
from pathlib import Path

import numpy
import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sigform_kit import to_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def finite(value):
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [finite(item) for item in value]
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return value


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not strict JSON")


@given(VALUES)
def test_plain_values_come_back_with_null_for_what_is_not_finite(value):
    line = to_json(value)
    assert "\n" not in line
    assert line.isascii()
    assert json.loads(line, parse_constant=refuse) == finite(value)


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: float
    where: Path


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Path("a/b"), "a/b"),
        (Colour.RED, "red"),
        (Point(math.nan, Path("p")), {"x": None, "where": "p"}),
        (datetime.datetime(2024, 1, 2, 3), "2024-01-02T03:00:00"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        ((1, {2}), [1, [2]]),
        ({1: "x"}, {"1": "x"}),
        (numpy.float32(0.5), 0.5),
        (numpy.float64("inf"), None),
        (numpy.int64(3), 3),
        (numpy.bool_(True), True),
        (numpy.array([[1.0, math.nan]]), [[1.0, None]]),
        (pandas.Timestamp("2024-01-02"), "2024-01-02T00:00:00"),
        (pandas.NaT, None),
        ("\udcff", "\udcff"),
    ],
)
def test_other_values(value, expected):
    assert json.loads(to_json(value)) == expected


def test_a_value_without_json_form_is_named():
    with pytest.raises(TypeError, match="a value of type bytes has no JSON form"):
        to_json({"x": b"1"})
