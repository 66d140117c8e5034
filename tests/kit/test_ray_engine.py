from __future__ import annotations

import sys
import types

import pytest
from kit.engine_workers import Square

from sigform_kit import InputError, run_items


def test_without_a_cluster_one_line_says_so(monkeypatch, tmp_path):
    def init(**_: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    # Whether another cluster runs on this machine must not matter.
    ray = types.SimpleNamespace(init=init, is_initialized=lambda: False)
    monkeypatch.setitem(sys.modules, "ray", ray)
    with pytest.raises(InputError) as caught:
        list(run_items([1], Square(tmp_path), engine="ray"))
    assert caught.value.message == (
        "engine ray: no Ray cluster to join at auto: does one run ('ray start --head'), "
        "and is its token in RAY_AUTH_TOKEN?"
    )


def test_without_ray_one_line_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"Ray is not installed; pip install 'sigform-kit\[ray\]'"):
        list(run_items([1], Square(tmp_path), engine="ray"))
