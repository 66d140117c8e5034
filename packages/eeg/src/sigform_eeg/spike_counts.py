"""How often neurons fire."""

import torch
from torch import Tensor, nn

from sigform_eeg.lif import Lif


@torch.no_grad()
def firing_rates(network: nn.Module, x: Tensor) -> dict[str, float]:
    """Runs `network` on x: spikes of each layer of neurons for each neuron and token, by name."""
    rates: dict[str, float] = {}

    def watch(name: str, layer: Lif) -> torch.utils.hooks.RemovableHandle:
        return layer.register_forward_hook(
            lambda _layer, _args, spikes: rates.update({name: float(spikes.mean())})
        )

    layers = {n: layer for n, layer in network.named_modules() if isinstance(layer, Lif)}
    watches = [watch(name, layer) for name, layer in layers.items()]
    try:
        network(x)
    finally:
        for handle in watches:
            handle.remove()
    return rates
