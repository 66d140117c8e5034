"""How the speed of VDT is measured: one denoising step of a published size, forms taking turns.

Times are seconds of processor time of one thread.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from benchmarks import published_vdt
from benchmarks.measure import Step, apart, median_seconds, peak_mebibytes
from torch import Tensor

from sigform_generate.vdt import PUBLISHED, VDT, VDTConfig

FORMS = ("published", "ours", "ours in bfloat16")
TURNS = 5


def network(config: VDTConfig) -> VDT:
    """Random weights, none of them zero, so that every part counts."""
    torch.manual_seed(0)
    model = VDT(config).eval().requires_grad_(False)
    for name, value in model.named_parameters():
        if "modulations" in name or "head" in name:
            torch.nn.init.normal_(value, std=0.02)
    return model


def step(form: str, depth: int, batch: int = 1) -> Callable[[], Tensor]:
    """One step of VDT-S/2 with `depth` of its twelve blocks on 16 latents of 32 x 32."""
    config = replace(PUBLISHED["VDT-S/2"], depth=depth)
    model = network(config)
    state = dict(model.published_state())
    state["pos_embed"], state["time_embed"] = model.pos_embed[None], model.time_embed[None]
    x, t = torch.randn(batch, 16, 4, 32, 32), torch.full((batch,), 500)

    @torch.inference_mode()
    def run() -> Tensor:
        if form == "published":
            return published_vdt.forward(state, config, x, t)
        with torch.autocast("cpu", torch.bfloat16, enabled=form == "ours in bfloat16"):
            return model(x, t)

    return run


def seconds(depth: int = 12, batch: int = 1) -> dict[str, float]:
    """Median seconds of a step in each form."""
    steps: dict[str, Step] = {form: step(form, depth, batch) for form in FORMS}
    return median_seconds(steps, TURNS)


def error(form: str, depth: int = 12, batch: int = 1) -> float:
    """Largest difference from the published form, of the largest value there."""
    wanted = step("published", depth, batch)()
    return float((step(form, depth, batch)().float() - wanted).abs().max() / wanted.abs().max())


def memory() -> dict[str, float]:
    """Peak MiB of a step above its start in each form; the weights are not counted."""
    return {form: apart(peak_mebibytes, step, (form, 1), (form, 2)) for form in FORMS}
