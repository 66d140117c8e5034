"""The average follows the network after every step, and the rate rises and falls."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from sigform_core.averaging import AveragedModule, averaged_state, scheduled, warm_cosine
from sigform_core.training import StepSampler, TrainSettings, fit


class Line(AveragedModule[nn.Linear]):
    """Learns y = 2 x by plain steps; keeps what its weight was after each."""

    def __init__(self, averaging: float) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Linear(1, 1), averaging)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        if batch_idx:
            self.seen.append((self.network.weight.detach().clone(), self.average.weight.clone()))
        return (self.network(batch[0]) - 2 * batch[0]).square().mean()

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        del batch_idx
        self.log("val_loss", (self.average(batch[0]) - 2 * batch[0]).square().mean())

    def configure_optimizers(self) -> dict[str, object]:  # pyright: ignore[reportIncompatibleMethodOverride]
        optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1)
        return scheduled(optimizer, 20, warm_up=2, final_rate=0.1)


def test_the_average_of_a_training(tmp_path: Path) -> None:
    data = TensorDataset(torch.linspace(-1, 1, 8)[:, None])
    module = Line(0.5)
    expected = module.network.weight.detach().clone()
    train = DataLoader(data, batch_sampler=StepSampler(8, 4, seed=0))
    settings = TrainSettings(
        run_dir=tmp_path, max_steps=20, validate_every=20, monitor="val_loss", device="cpu"
    )
    result = fit(module, (train, DataLoader(data, batch_size=8)), settings)
    after = [*module.seen, (module.network.weight.detach(), module.average.weight)]
    assert len(after) == 20
    for step, (weight, average) in enumerate(after, 1):
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * weight
        torch.testing.assert_close(average, expected)
    assert result.best_path is not None
    state = averaged_state(result.best_path)
    assert set(state) == {"weight", "bias"}
    torch.testing.assert_close(state["weight"], module.average.weight)


@pytest.mark.parametrize(("step", "keep"), [(1, 2 / 11), (90, 91 / 100), (10**6, 0.999)])
def test_the_share_that_is_kept(step: int, keep: float) -> None:
    module: AveragedModule[nn.BatchNorm1d] = AveragedModule(nn.BatchNorm1d(3), 0.999)
    assert not module.average.training
    with torch.no_grad():
        for value in (*module.network.parameters(), module.network.get_buffer("running_mean")):
            value += 1
    module.follow(step)
    for value, start in ((module.average.weight, 1.0), (module.average.bias, 0.0)):
        torch.testing.assert_close(value - start, torch.full_like(value, 1 - keep))
        assert not value.requires_grad
    assert torch.equal(module.average.get_buffer("running_mean"), torch.ones(3))


def test_what_is_frozen_is_in_memory_once() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    network[0].requires_grad_(False)
    before = network[0].get_parameter("weight").clone()
    module: AveragedModule[nn.Sequential] = AveragedModule(network, 0.999)
    assert module.average[0].weight is network[0].weight
    assert module.average[1].weight is not network[1].weight
    module.follow(1)
    assert torch.equal(network[0].get_parameter("weight"), before)
    assert "average.0.weight" in module.state_dict()


def test_the_rate_rises_and_falls() -> None:
    rates = [warm_cosine(step, 100, warm_up=10, final_rate=0.02) for step in range(102)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert max(rates) == pytest.approx(1.0, rel=0.05)
    assert rates[50] == pytest.approx(0.51)
    assert rates[100] == rates[101] == pytest.approx(0.02)
    assert warm_cosine(0, 10, warm_up=0, final_rate=0.0) == 1
