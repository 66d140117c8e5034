"""How the speed of StyleSwin is measured: one image, the forms taking turns.

Times are seconds of processor time of one thread.
"""

from collections.abc import Callable

import torch
from benchmarks.measure import Step, apart, median_seconds, peak_mebibytes
from benchmarks.published_styleswin import Plain
from torch import Tensor

from sigform_generate.styleswin import Generator, GeneratorConfig

FORMS = ("published", "ours", "ours in bfloat16")
SIZE = 256
TURNS = 5


def network(size: int) -> Generator:
    """The published network at random weights, none of them zero, so that every part counts."""
    torch.manual_seed(0)
    model = Generator(GeneratorConfig(size=size)).eval().requires_grad_(False)
    for name, value in model.named_parameters():
        if value.dim() < 2 or "to_rgbs" in name:
            torch.nn.init.normal_(value, std=0.3)
    return model


def image(form: str, size: int, batch: int = 1) -> Callable[[], Tensor]:
    """Images of `size` pixels by a form: a function that makes the same ones at every call."""
    model = network(size)
    z = torch.randn(batch, model.config.style_dim)
    plain = Plain(model) if form == "published" else model

    @torch.inference_mode()
    def run() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=form == "ours in bfloat16"):
            return plain(z)

    return run


def seconds(size: int = SIZE) -> dict[str, float]:
    """Median seconds of an image in each form."""
    steps: dict[str, Step] = {form: image(form, size) for form in FORMS}
    return median_seconds(steps, TURNS)


def error(form: str, size: int = SIZE, batch: int = 1) -> float:
    """Largest difference from the published form, of the largest value there."""
    wanted = image("published", size, batch)()
    return float((image(form, size, batch)().float() - wanted).abs().max() / wanted.abs().max())


def memory() -> dict[str, float]:
    """Peak MiB of an image above its start in each form; the weights are not counted."""
    return {form: apart(peak_mebibytes, image, (form, 32), (form, SIZE)) for form in FORMS}
