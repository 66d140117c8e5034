"""VDT written plainly, the way its published code is described, as the measure for ours.

Written here from the description, not copied: patches by a convolution, torch's linear layers,
each block with its own adaLN projection, tokens turned and copied between time and space. Works on
the published state dict; letters of shapes as in `sigform_generate.vdt`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from sigform_generate.adaln import timestep_features
from sigform_generate.vdt import VDTConfig

State = Mapping[str, Tensor]


def forward(state: State, config: VDTConfig, x: Tensor, t: Tensor) -> Tensor:
    """x (B, T, C, H, W), t (B,) -> (B, T, 2C or C, H, W); `state` has both tables of positions."""
    batch, frames = x.shape[:2]
    condition = _condition(state, t)  # (B, D)
    frame_condition = condition.repeat_interleave(frames, dim=0)  # (B*T, D)
    tokens = F.conv2d(
        x.flatten(0, 1),
        state["x_embedder.proj.weight"],
        state["x_embedder.proj.bias"],
        stride=config.patch_size,
    )
    tokens = tokens.flatten(2).transpose(1, 2) + state["pos_embed"]  # (B*T, N, D)
    tokens = _turned(tokens, batch) + state["time_embed"]  # (B*N, T, D)
    tokens = _turned(tokens, batch)
    for number in range(config.depth):
        tokens = _block(state, f"blocks.{number}", config.num_heads, tokens, frame_condition, batch)
    shift, scale = _linear(state, "final_layer.adaLN_modulation.1", F.silu(frame_condition)).chunk(
        2, dim=1
    )
    tokens = _linear(state, "final_layer.linear", _modulated(tokens, shift, scale))
    (h, w), p, c = config.grid, config.patch_size, config.out_channels
    images = torch.einsum("nhwpqc->nchpwq", tokens.reshape(-1, h, w, p, p, c))
    return images.reshape(batch, frames, c, h * p, w * p)


def _condition(state: State, t: Tensor) -> Tensor:
    hidden = F.silu(_linear(state, "t_embedder.mlp.0", timestep_features(t)))
    labels = torch.zeros(len(t), dtype=torch.long)
    table = state["y_embedder.embedding_table.weight"]
    return _linear(state, "t_embedder.mlp.2", hidden) + F.embedding(labels, table)


def _block(state: State, name: str, heads: int, x: Tensor, condition: Tensor, batch: int) -> Tensor:
    """x (B*T, N, D), condition (B*T, D)."""
    modulation = _linear(state, f"{name}.adaLN_modulation.1", F.silu(condition))
    shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation.chunk(6, dim=1)
    turned = _turned(x, batch)  # (B*N, T, D)
    normed = F.layer_norm(
        turned,
        turned.shape[-1:],
        state[f"{name}.temporal_norm1.weight"],
        state[f"{name}.temporal_norm1.bias"],
    )
    mixed = _attention(state, f"{name}.temporal_attn", heads, normed)
    x = x + _turned(_linear(state, f"{name}.temporal_fc", mixed), batch)
    mixed = _attention(state, f"{name}.attn", heads, _modulated(x, shift_a, scale_a))
    x = x + gate_a.unsqueeze(1) * mixed
    hidden = _linear(state, f"{name}.mlp.fc1", _modulated(x, shift_m, scale_m))
    hidden = _linear(state, f"{name}.mlp.fc2", F.gelu(hidden, approximate="tanh"))
    return x + gate_m.unsqueeze(1) * hidden


def _turned(x: Tensor, batch: int) -> Tensor:
    """(B*A, C, D) -> (B*C, A, D)."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2).flatten(0, 1).contiguous()


def _modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    normed = F.layer_norm(x, x.shape[-1:], eps=1e-6)
    return normed * (1 + scale.unsqueeze(1)) + shift.unsqueeze(1)


def _attention(state: State, name: str, heads: int, x: Tensor) -> Tensor:
    batch, length, dim = x.shape
    qkv = _linear(state, f"{name}.qkv", x).reshape(batch, length, 3, heads, dim // heads)
    query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, N, D/H)
    mixed = F.scaled_dot_product_attention(query, key, value)
    return _linear(state, f"{name}.proj", mixed.transpose(1, 2).reshape(batch, length, dim))


def _linear(state: State, name: str, x: Tensor) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])
