"""Upscale images 2, 3 or 4 times, or to any size, with CRAFT and DLGSANet.

    from sigform_superres import Upscaler, read_picture, write_picture

    upscaler = Upscaler.load(scale=4)
    large = upscaler(read_picture("photo.png"))   # alpha and metadata are kept
    write_picture(large, "photo_x4.png")
    upscaler(pixels)                              # or an array: (H, W, 1|3), uint8 or uint16

Nothing heavy is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sigform_superres.craft import CRAFT, CRAFTConfig
    from sigform_superres.dlgsanet import DLGSANet, DLGSANetConfig
    from sigform_superres.picture import Picture
    from sigform_superres.protocol import evaluate
    from sigform_superres.reading import read_picture
    from sigform_superres.upscaler import Target, Upscaler
    from sigform_superres.writing import write_picture

__all__ = [
    "CRAFT",
    "CRAFTConfig",
    "DLGSANet",
    "DLGSANetConfig",
    "Picture",
    "Target",
    "Upscaler",
    "evaluate",
    "read_picture",
    "write_picture",
]

_HOMES = {
    "CRAFT": "craft",
    "CRAFTConfig": "craft",
    "DLGSANet": "dlgsanet",
    "DLGSANetConfig": "dlgsanet",
    "Picture": "picture",
    "Target": "upscaler",
    "Upscaler": "upscaler",
    "evaluate": "protocol",
    "read_picture": "reading",
    "write_picture": "writing",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"sigform_superres.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
