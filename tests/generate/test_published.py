"""Which loader a checkpoint gets, and a published one from its file to a picture."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from generate.commands import command, saved
from generate.references import perturb, reference

from sigform_generate.dit import DiT, DiTConfig
from sigform_generate.pictures import read_image
from sigform_generate.published import load_any
from sigform_generate.upstream_diffusion import NOTICE


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Works in an empty folder."""
    monkeypatch.chdir(tmp_path)


def dit() -> Path:
    """A DiT over latents of 4 x 4 as its authors publish them."""
    model = DiT(DiTConfig(input_size=4, hidden_size=384, depth=1, num_heads=6, num_classes=3))
    torch.manual_seed(0)
    perturb(model)
    torch.save({**model.published_state(), "pos_embed": model.pos_embed[None]}, "DiT.pt")
    return Path("DiT.pt")


def test_each_file_gets_its_loader(tmp_path: Path) -> None:
    assert load_any(saved(tmp_path, "video")).model == "vdt"
    assert load_any(dit()).model == "dit"


def test_a_published_styleswin_makes_images() -> None:
    _, state, _ = reference("styleswin_a")
    torch.save({"g": state, "g_ema": state, "d": {}}, "FFHQ.pt")
    assert load_any(Path("FFHQ.pt")).model == "styleswin"
    told = command("image", "-w", "FFHQ.pt", "-o", "a.png")
    assert told.code == 0, told.err
    assert "FFHQ.pt: MIT" in told.err
    assert read_image(Path("a.png")).shape == (32, 32, 3)
    assert "makes: image" in command("info", "FFHQ.pt").out


def test_a_published_dit_needs_its_latents() -> None:
    told = command("image", "-w", dit(), "--steps", "2")
    assert told.code == 1
    assert NOTICE in told.err
    assert "needs latents (--latents), a folder with a copy of stabilityai/sd-vae-ft" in told.error


def test_a_published_dit_makes_images_through_latents() -> None:
    diffusers = pytest.importorskip("diffusers")
    block = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    vae = diffusers.AutoencoderKL(
        down_block_types=block[0],
        up_block_types=block[1],
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        latent_channels=4,
    )
    vae.save_pretrained("vae")
    words = ("--latents", "vae", "--steps", "2", "--label", 1, "--guidance", 4, "-o", "a.png")
    told = command("image", "-w", dit(), *words)
    assert told.code == 0, told.err
    assert NOTICE in told.err
    assert read_image(Path("a.png")).shape == (32, 32, 3)


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        ({"layer.weight": torch.zeros(1)}, "other.pt has layer.weight, ...; needs a checkpoint of"),
        ([1, 2], "other.pt holds a list"),
        ({"g_ema": {"a": torch.zeros(1)}}, "needs a StyleSwin generator"),
        ({"a": Path("a")}, "other.pt holds pathlib"),
    ],
)
def test_a_checkpoint_of_another_network_is_named(held: object, reason: str) -> None:
    torch.save(held, "other.pt")
    with pytest.raises(ValueError, match=reason.replace(".", r"\.")):
        load_any(Path("other.pt"))


def test_a_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a folder; needs a weight file"):
        load_any(tmp_path)
