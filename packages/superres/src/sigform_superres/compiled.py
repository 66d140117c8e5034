"""CRAFT compiled by OpenVINO for pictures of one size, on the CPU: the extra `openvino`.

Compiling takes far longer than enlarging one picture, so it is for many of a size.
"""

from __future__ import annotations

import copy
import sys
from collections import OrderedDict
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sigform_kit.errors import InputError
from sigform_superres.craft import CRAFT

if TYPE_CHECKING:
    from openvino import Output
    from openvino.frontend import NodeContext

INSTALL = "pip install 'sigform-superres[openvino]'"

MOST_SHAPES = 4
"""How many compiled forms are kept: those last used."""

PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16"}


class CompiledNetwork(nn.Module):
    """A CRAFT that OpenVINO runs: (B, 3, H, W) in [0, 1] -> (B, 3, s * H, s * W), dtype of x.

    Each shape is compiled when it first comes, for as many threads as torch then uses; the last
    MOST_SHAPES are kept, and `compilations` counts all. It calculates in the network's dtype,
    float32 or bfloat16, and has no gradient.

    Raises ValueError for another network, device or dtype, InputError where OpenVINO is missing.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        # DLGSANet is quicker through PyTorch, and what it does in place would convert wrongly.
        if not isinstance(network, CRAFT):
            kind = type(network).__name__
            raise ValueError(f"network is {kind}; needs CRAFT for the backend openvino")
        weight = network.conv_first.weight
        if weight.device.type != "cpu":
            raise ValueError(f"device is {weight.device}; needs cpu for the backend openvino")
        dtype = network.body_dtype
        if dtype not in PRECISIONS:
            raise ValueError(
                f"dtype is {dtype}; needs float32 or bfloat16 for the backend openvino"
            )
        try:
            from openvino import Core
        except ImportError as error:
            raise InputError(f"the backend openvino needs OpenVINO: {INSTALL}") from error
        _silence()
        self.network = network
        self.precision = PRECISIONS[dtype]
        self.compilations = 0
        self._core = Core()
        self._compiled: OrderedDict[tuple[int, ...], Callable[[Tensor], Tensor]] = OrderedDict()

    def forward(self, x: Tensor) -> Tensor:
        shape = tuple(x.shape)
        if shape not in self._compiled:
            if len(self._compiled) == MOST_SHAPES:
                self._compiled.popitem(last=False)
            self._compiled[shape] = self._compile(shape)
        self._compiled.move_to_end(shape)
        return self._compiled[shape](x)

    # What the converter takes apart must not be marked as inference's own.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _compile(self, shape: tuple[int, ...]) -> Callable[[Tensor], Tensor]:
        from openvino import PartialShape, convert_model
        from openvino.frontend.pytorch import ConversionExtension

        model = convert_model(
            copy.deepcopy(self.network).float().eval(),
            example_input=torch.zeros(shape),
            input=[PartialShape(list(shape))],
            extension=[ConversionExtension("aten.diagonal.default", _diagonal_blocks)],
            # Tracing instead would meet the linear layer of oneDNN, which does not convert.
            dynamo=True,
        )
        settings = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": self.precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = self._core.compile_model(model, "CPU", settings)
        self.compilations += 1

        def enlarged(x: Tensor) -> Tensor:
            made = compiled([x.detach().float().numpy()])[0]
            # The next call writes where this one did.
            return torch.from_numpy(made.copy()).to(x.dtype)

        return enlarged


def _silence() -> None:
    """Keep OpenVINO's converter from telling its makers that it was used, as it does unasked."""
    import_module("openvino.tools.ovc.convert_impl")
    stub = import_module("openvino.tools.ovc.telemetry_stub")
    for name, module in list(sys.modules.items()):
        if name.startswith("openvino.tools.") and hasattr(module, "tm"):
            vars(module)["tm"] = stub


def _diagonal_blocks(node: NodeContext) -> list[Output]:
    """What OpenVINO cannot convert, as CRAFT uses it: (B, h, d, h, d) -> (B, d, d, h)."""
    from openvino import opset14

    return opset14.einsum([node.get_input(0)], "bhihj->bijh").outputs()
