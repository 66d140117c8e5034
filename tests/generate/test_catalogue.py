"""Names of weights, and what is said of those that are not in the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from sigform_generate import catalogue
from sigform_generate.catalogue import DEFAULTS, PUBLISHED, find_weights
from sigform_kit.catalogue import FILE, read_catalogue

TABLE = Path(catalogue.__file__).with_name(FILE)


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    files = {name: tmp_path / f"{name}.safetensors" for name in DEFAULTS.values()}
    monkeypatch.setattr(catalogue, "SHIPPED", files)
    return files


def test_default_goes_by_what_is_made(shipped: dict[str, Path]) -> None:
    for kind, name in DEFAULTS.items():
        assert find_weights("default", kind) == shipped[name]
        assert find_weights(name) == shipped[name]


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "own.pt").touch()
    assert find_weights(str(tmp_path / "own.pt")) == tmp_path / "own.pt"


def test_a_near_miss_is_corrected(shipped: dict[str, Path]) -> None:
    assert shipped
    with pytest.raises(ValueError, match=r"'vtd-64' are neither .* did you mean vdt-64\?"):
        find_weights("vtd-64")


def test_published_weights_say_their_licence() -> None:
    for weights in PUBLISHED:
        free = "StyleSwin" in weights.where
        assert weights.licence == "MIT" if free else "non-commercial" in weights.licence
        assert weights.where.startswith("github.com/")
    assert len([weights for weights in PUBLISHED if weights.licence == "MIT"]) == 5


def test_the_table_tells_what_the_code_says() -> None:
    table = {entry.name: entry for entry in read_catalogue(TABLE)}
    assert set(table) == {*DEFAULTS.values(), *(weights.name for weights in PUBLISHED)}
    for weights in PUBLISHED:
        entry = table[weights.name]
        assert (entry.licence, entry.where) == (weights.licence, weights.where)
        assert entry.parameters is not None
        assert f"{entry.parameters / 1e6:.3g}" == weights.parameters.removesuffix(" M")
        figure = "" if entry.published is None else f"FID {entry.published.value:.2f}"
        assert figure == weights.figure


def test_every_shipped_file_has_a_card() -> None:
    for path in catalogue.SHIPPED.values():
        assert path.with_suffix(".md").is_file()
        assert path.stat().st_size <= 25 * 2**20
