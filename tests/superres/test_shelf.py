"""What is put away comes back, from memory and from files."""

import gc
import weakref
from pathlib import Path

import pytest
import torch

from sigform_superres.shelf import Shelf


def files(shelf: Shelf) -> list[Path]:
    return [] if shelf._folder is None else list(Path(shelf._folder.name).iterdir())


def test_within_the_budget_it_is_the_same_tensor() -> None:
    tensor = torch.randn(4, 5)
    with Shelf(budget=tensor.nbytes) as shelf:
        assert shelf.keep(tensor)() is tensor
        assert shelf.keep(tensor)() is tensor  # the room is free again
        assert not files(shelf)


@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float32, 5e-4), (torch.bfloat16, 0.0), (torch.float64, 0.0)]
)
def test_beyond_it_waits_in_a_file(dtype: torch.dtype, error: float) -> None:
    tensor = torch.randn(3, 4, 5).to(dtype)
    with Shelf(budget=0) as shelf:
        back = shelf.keep(tensor)
        assert len(files(shelf)) == 1
        found = back()
        assert not files(shelf)
    assert (found.dtype, found.shape) == (dtype, tensor.shape)
    torch.testing.assert_close(found, tensor, rtol=error, atol=0)


def test_nothing_is_left_behind() -> None:
    with Shelf(budget=0) as shelf:
        shelf.keep(torch.zeros(3))
        folder = files(shelf)[0].parent
    assert not folder.exists()


def test_what_was_taken_back_is_not_held() -> None:
    shelf = Shelf(budget=1 << 20)
    back = shelf.keep(torch.zeros(1000))
    held = weakref.ref(back())
    gc.collect()
    assert held() is None
