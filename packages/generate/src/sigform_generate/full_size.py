"""What `train --recipe published` needs of the other options, known before torch is imported.

The published diffusion networks see latents of two autoencoders that a person fetches: frames
shrunk to an eighth of their sides, spectrograms to a quarter of theirs, both in patches of 2 x 2.
"""

from __future__ import annotations

from typing import Any

import click

from sigform_generate.catalogue import AUDIOLDM, LICENCES, SD_VAE
from sigform_kit.errors import UsageError

SIZES = {"small": 64, "published": 256}
"""Side of what is made by each recipe, in pixels, unless another is asked for."""

MODELS = ("VDT-S/2", "VDT-L/2")
"""The published sizes of VDT, the usual one first."""

PATCH = 16
"""Pixels on each side of a patch of latents."""

SAMPLE_RATE, ROW = 16_000, 640
"""Of sound, in Hz, and how many samples a row of its latents lasts; a patch has two rows."""

FOLDERS = {"latents": SD_VAE, "sound_latents": AUDIOLDM}


def settle(kind: str, ctx: click.Context, options: dict[str, Any]) -> None:
    """Gives the options left out the recipe's values, in the settings too.

    Raises UsageError where they do not go together.
    """
    recipe = options["recipe"]
    _fill("size", SIZES[recipe], ctx, options)
    if kind == "image":
        return
    if recipe == "small":
        for name in ("model", *FOLDERS):
            if options.get(name) is not None:
                raise UsageError(f"--{name.replace('_', '-')} needs --recipe published", ctx)
        return
    if options["size"] % PATCH:
        raise UsageError(
            f"--size is {options['size']}; --recipe published needs a multiple of {PATCH}", ctx
        )
    if kind == "video" and options["start"] is not None:
        if options["model"] is not None:
            raise UsageError("--model and --start exclude each other", ctx)
    elif kind == "video":
        _fill("model", MODELS[0], ctx, options)
    if kind == "av":
        _check_sound(ctx, options)
    for name, wanted in FOLDERS.items():
        if name in options and options[name] is None:
            raise UsageError(
                f"--recipe published learns latents; needs --{name.replace('_', '-')} DIR, "
                f"a copy of {wanted} ({LICENCES[wanted]})",
                ctx,
            )


def _check_sound(ctx: click.Context, options: dict[str, Any]) -> None:
    if options["bouncing"]:
        raise UsageError("--bouncing draws for the small recipe; needs FOLDER instead", ctx)
    frames, fps = options["frames"], options["fps"]
    rows = -(-round(frames / fps * SAMPLE_RATE) // ROW)
    if rows % 2:
        raise UsageError(
            f"--frames {frames} at --fps {fps:g} last {frames / fps:.4g} s; "
            f"--recipe published needs a multiple of {2 * ROW / SAMPLE_RATE:g} s",
            ctx,
        )


def _fill(name: str, value: Any, ctx: click.Context, options: dict[str, Any]) -> None:
    if options[name] is None:
        options[name] = ctx.params[name] = value
