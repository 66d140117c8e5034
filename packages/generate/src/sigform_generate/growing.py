"""Twice the image for trained StyleSwins: short trainings start small and grow (arXiv 1710.10196).

Everything that has learnt is taken over, and the grown networks start where the small ones were:
the generator makes the small one's images enlarged, the discriminator judges images reduced.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigform_core.linear import solve
from sigform_generate.styleswin import Discriminator, Generator, Stage, ToRGB

SOLVED = 64
"""Images on which the new way to colours is solved."""

RIDGE = 1e-4
"""Of the features' mean square."""


@torch.no_grad()
def grow_generator(small: Generator, large: Generator, generator: torch.Generator) -> None:
    """Give `large` what `small`, of half its size, has learnt, and solve for its new colours.

    The last stage's colours were read off its own features; now they come after an enlargement,
    where least squares finds them again. Raises ValueError naming what does not fit.
    """
    last = len(small.layers) - 1
    _take(small, large, f"to_rgbs.{last}.", {})
    z = torch.randn(SOLVED, small.config.style_dim, generator=generator)
    features: list[Tensor] = []
    wanted: list[Tensor] = []
    stage, colours = large.layers[last], large.to_rgbs[last]
    first = small.to_rgbs[last]
    if not (isinstance(stage, Stage) and stage.upsample is not None):
        raise ValueError("the large generator is no larger; needs twice the size")
    if not isinstance(colours, ToRGB) or (bias := colours.conv.bias) is None:
        raise ValueError("the large generator has no colours; needs them")
    upsample = stage.upsample

    def keep(_: nn.Module, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        added = output - inputs[1]  # (B, 3, H, W), what the stage itself says
        seen = F.interpolate(added, scale_factor=2, mode="bilinear", align_corners=False)
        features.append(upsample.normed(inputs[0]).flatten(0, 2))
        wanted.append(seen.permute(0, 2, 3, 1).flatten(0, 2))

    hook = first.register_forward_hook(keep)
    try:
        for part in z.split(16):
            small(part)
    finally:
        hook.remove()
    x = torch.cat(features).double()
    x = torch.cat([x, x.new_ones(len(x), 1)], dim=1)
    products = x.T @ x
    ridge = RIDGE * products.diagonal().mean() * torch.eye(len(products), dtype=torch.float64)
    solution = solve(products + ridge, x.T @ torch.cat(wanted).double()).float()  # (C + 1, 3)
    rows = solution[:-1].T  # (3, C)
    # The first three channels are the colours, as large as the rest.
    usual = upsample.reduction.weight.norm(dim=1).mean() / rows.norm(dim=1).mean()
    upsample.reduction.weight[:3] = rows * usual
    colours.conv.weight.zero_()
    colours.conv.weight[:, :3, 0, 0] = torch.eye(3) / usual
    bias.copy_(solution[-1])
    for value in large.to_rgbs[last + 1].parameters():
        value.zero_()


@torch.no_grad()
def grow_discriminator(small: Discriminator, large: Discriminator) -> None:
    """Give `large` what `small`, of half its size, has learnt; its new layers add nothing yet.

    Raises ValueError naming what does not fit.
    """
    moved = {
        name: name.replace(f"{kind}.{number}.", f"{kind}.{number + 1}.", 1)
        for name in small.state_dict()
        for kind, _, rest in [name.partition(".")]
        if kind in ("from_rgbs", "convs")
        for number in [int(rest.partition(".")[0])]
    }
    _take(small, large, "", moved)
    halving = large.convs[0].get_submodule("conv2.1")
    if "weight" in dict(halving.named_parameters()):
        halving.get_parameter("weight").zero_()


def _take(small: nn.Module, large: nn.Module, besides: str, moved: dict[str, str]) -> None:
    state = {
        moved.get(name, name): value
        for name, value in small.state_dict().items()
        if not (besides and name.startswith(besides))
    }
    own = large.state_dict()
    for name, value in state.items():
        if name not in own or own[name].shape != value.shape:
            raise ValueError(f"{name} does not fit the larger network; needs the same widths")
    large.load_state_dict(state, strict=False)
