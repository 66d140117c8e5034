"""`--help` answers at once, also with every domain installed."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache

import pytest

from sigform_suite.domains import installed_domains

VERBS = [domain.verb for domain in installed_domains()]
BOUND = 3.3
"""Times as long as `import click`: less than 0.3 s where that takes 0.09 s."""


def seconds(*words: str) -> float:
    """Processor time of a Python process, best of three, so that a busy machine does not count."""
    taken = []
    for _ in range(3):
        before = os.times()
        subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
        after = os.times()
        taken.append(sum(after[2:4]) - sum(before[2:4]))
    return min(taken)


@cache
def least() -> float:
    return seconds("-c", "import click")


@pytest.mark.parametrize("words", [[], *([verb] for verb in VERBS)], ids=["sigform", *VERBS])
def test_help_takes_little_more_than_click_itself(words):
    assert len(VERBS) >= 4, "the domains are not installed"
    assert seconds("-m", "sigform_suite", *words, "--help") < BOUND * least()
