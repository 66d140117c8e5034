"""Every fault once: the quick form of `python -m faults`."""

from __future__ import annotations

import random

import pytest
from faults.domains import DOMAINS, installed
from faults.trials import TRIALS, damaged, try_all


@pytest.mark.slow
@pytest.mark.parametrize("name", [domain.name for domain in DOMAINS])
def test_nothing_is_lost(name):
    found = [domain for domain in installed() if domain.name == name]
    if not found:
        pytest.skip(f"{name} is not installed")
    rows = try_all(found[0], count=1, seed=1)
    assert {row.fault: row.lost for row in rows if row.lost} == {}
    if found[0].engine:
        assert [row.fault for row in rows] == [*TRIALS]


def test_damage_is_damage():
    draw = random.Random(0)
    data = bytes(range(200))
    made = [damaged(data, draw) for _ in range(50)]
    assert data not in made
    assert min(map(len, made)) < 100
    assert max(map(len, made)) == 200
