import pytest
import torch
from torch.nn import functional as F

from sigform_generate.discriminator import Discriminator, DiscriminatorConfig
from sigform_generate.growing import grow_discriminator, grow_generator
from sigform_generate.styleswin import Generator, GeneratorConfig

WIDTHS = (32, 32, 32, 16)


def generator(stages: int, widths: tuple[int, ...] = WIDTHS) -> Generator:
    torch.manual_seed(stages)
    config = GeneratorConfig(
        size=2 << stages, style_dim=16, n_mlp=1, min_heads=2, in_channels_by_stage=widths[:stages]
    )
    model = Generator(config)
    for to_rgb in model.to_rgbs:
        torch.nn.init.normal_(to_rgb.conv.weight, std=0.3)
    return model.eval()


def discriminator(size: int, widths: tuple[int, ...], sn: bool = False) -> Discriminator:
    torch.manual_seed(size)
    return Discriminator(DiscriminatorConfig(size=size, sn=sn, channels=widths)).eval()


def test_a_grown_generator_makes_the_same_images_enlarged() -> None:
    small, large = generator(3), generator(4)
    grow_generator(small, large, torch.Generator().manual_seed(0))
    z = torch.randn(4, 16)
    with torch.no_grad():
        wanted = F.interpolate(small(z), scale_factor=2, mode="bilinear")
        made = large(z)
    assert (made - wanted).std() < 0.5 * wanted.std()


def test_what_has_learnt_is_taken_over() -> None:
    small, large = generator(3), generator(4)
    grow_generator(small, large, torch.Generator().manual_seed(0))
    taken, own = small.state_dict(), large.state_dict()
    assert all(
        torch.equal(value, own[name])
        for name, value in taken.items()
        if not name.startswith("to_rgbs.2.")
    )


def test_a_grown_discriminator_judges_the_reduced_image() -> None:
    small, large = discriminator(16, (24, 16, 16)), discriminator(32, (24, 16, 8, 8))
    grow_discriminator(small, large)
    x = torch.randn(4, 3, 32, 32)
    # The filter before halving differs from a plain mean, so a smooth image is asked about.
    smooth = F.interpolate(torch.randn(4, 3, 4, 4), (32, 32), mode="bicubic")
    reduced = F.avg_pool2d(smooth, 2)
    with torch.no_grad():
        assert (large(smooth) - small(reduced)).abs().max() < 0.1 * small(reduced).abs().max()
        assert large(x).shape == (4, 1)


def test_other_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="does not fit the larger network; needs the same widths"):
        grow_discriminator(discriminator(16, (24, 16, 16)), discriminator(32, (24, 8, 8, 8)))
    with pytest.raises(ValueError, match="does not fit the larger network"):
        grow_generator(generator(3), generator(4, (32, 16, 32, 16)), torch.Generator())
    with pytest.raises(ValueError, match="needs twice the size"):
        grow_generator(generator(3), generator(3), torch.Generator())
