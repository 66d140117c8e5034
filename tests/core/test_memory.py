"""Free memory: what the machine has, and no more than a container allows."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch

from sigform_core.memory import free_memory

CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 1000 bytes left."""
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))


def test_of_this_machine() -> None:
    assert 0 <= free_memory(CPU) <= psutil.virtual_memory().total


@pytest.mark.usefixtures("machine")
def test_without_a_container(tmp_path: Path) -> None:
    assert free_memory(CPU, tmp_path) == 1000
    assert free_memory(torch.device("mps"), tmp_path) == 1000


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("limit", "used", "left"),
    [
        ("700\n", "100\n", 600),
        ("5000\n", "100\n", 1000),
        ("700\n", "900\n", 0),
        ("max\n", "100\n", 1000),
    ],
)
def test_within_a_container(limit: str, used: str, left: int, tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(limit)
    (tmp_path / "memory.current").write_text(used)
    assert free_memory(CPU, tmp_path) == left


@pytest.mark.usefixtures("machine")
def test_within_a_container_of_the_first_version(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    folder.mkdir()
    (folder / "memory.limit_in_bytes").write_text("800\n")
    assert free_memory(CPU, tmp_path) == 1000  # half of it says nothing
    (folder / "memory.usage_in_bytes").write_text("500\n")
    assert free_memory(CPU, tmp_path) == 300
    # No limit, as that version writes it.
    (folder / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert free_memory(CPU, tmp_path) == 1000


def test_of_a_graphics_card(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def info(device: torch.device) -> tuple[int, int]:
        asked.append(device)
        return 123, 456

    monkeypatch.setattr(torch.cuda, "mem_get_info", info)
    assert free_memory(torch.device("cuda:1")) == 123
    assert asked == [torch.device("cuda:1")]
