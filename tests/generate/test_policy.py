"""The seam around the blocks: the plain policy changes nothing, another is asked about all."""

from collections.abc import Callable

import torch
from generate.references import perturb
from torch import Tensor

from sigform_generate.diffusion import Diffusion, betas
from sigform_generate.dit import DiT, DiTConfig
from sigform_generate.policy import PLAIN, BlockPolicy, StepContext, run_blocks
from sigform_generate.sampling import denoiser, sample
from sigform_generate.vdt import VDT, VDTConfig


class Recorder:
    """Runs all, and keeps what it was asked; with `skip`, leaves a block out."""

    def __init__(self, skip: int | None = None) -> None:
        self.skip = skip
        self.contexts: list[StepContext] = []
        self.indices: list[int] = []

    def begin(self, context: StepContext) -> None:
        self.contexts.append(context)

    def run(
        self,
        index: int,
        block: Callable[[Tensor, Tensor], Tensor],
        tokens: Tensor,
        condition: Tensor,
    ) -> Tensor:
        self.indices.append(index)
        return tokens if index == self.skip else block(tokens, condition)


def small_vdt() -> VDT:
    torch.manual_seed(0)
    model = VDT(
        VDTConfig(
            input_size=4,
            in_channels=1,
            hidden_size=16,
            depth=3,
            num_heads=2,
            num_frames=2,
            num_classes=1,
            learn_sigma=False,
        )
    ).eval()
    perturb(model)
    return model


def test_plain_changes_nothing() -> None:
    model = small_vdt()
    x, t = torch.randn(2, 2, 1, 4, 4), torch.tensor([3, 700])
    with torch.no_grad():
        tokens = model.embed(x)
        blocks, head = model.modulations(model.condition(t))
        through = run_blocks(PLAIN, model.blocks, tokens, blocks)
        for block, condition in zip(model.blocks, blocks, strict=True):
            tokens = block(tokens, condition)
        assert torch.equal(through, tokens)
        assert torch.equal(model(x, t, policy=PLAIN), model(x, t))
        assert torch.equal(model(x, t, policy=recorder()), model(x, t))
    assert model.head(tokens, head).shape == (2, 2, 4, 4)


def recorder(skip: int | None = None) -> BlockPolicy:
    return Recorder(skip)  # pyright: ignore[reportReturnType]


def test_a_policy_can_leave_blocks_out() -> None:
    model = small_vdt()
    x, t = torch.randn(1, 2, 1, 4, 4), torch.tensor([3])
    with torch.no_grad():
        assert not torch.equal(model(x, t, policy=recorder(1)), model(x, t))


def test_a_policy_hears_of_every_step_and_block() -> None:
    model = small_vdt()
    heard = Recorder()
    diffusion = Diffusion(betas("cosine"), prediction="start", variance="fixed_large")
    sample(
        denoiser(model),
        diffusion,
        [(2, 1, 4, 4)],
        seeds=[0, 1],
        steps="ddim4",
        policy=heard,  # pyright: ignore[reportArgumentType]
    )
    assert [context.step for context in heard.contexts] == [0, 1, 2, 3]
    assert [context.timestep for context in heard.contexts] == [750, 500, 250, 0]
    assert {context.steps for context in heard.contexts} == {4}
    assert heard.indices == [0, 1, 2] * 4


def test_guidance_runs_each_block_once_for_both() -> None:
    torch.manual_seed(0)
    model = DiT(DiTConfig(input_size=4, hidden_size=16, depth=2, num_heads=2, num_classes=3)).eval()
    heard = Recorder()
    labels = torch.tensor([1])
    x, t = torch.randn(1, 4, 4, 4), torch.tensor([3])
    model.guided(x, t, labels, 2.0, policy=heard)  # pyright: ignore[reportArgumentType]
    assert heard.indices == [0, 1]
