"""Loading what others published: their state dicts strictly, their configs without guessing.

Every model's `from_reference` stands on these: nothing is dropped, kept at its random start
or read under a wrong meaning without being named.
"""

import dataclasses
import difflib
from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def load_reference(
    module: AnyModule,
    state: Mapping[str, Tensor],
    *,
    rename: Callable[[str], str] | None = None,
    ignore: Collection[str] = (),
) -> AnyModule:
    """Fill `module` with a published state dict, strictly, and return it in eval mode.

    `rename` turns a published key into the module's. `ignore` holds glob patterns for what is
    derived rather than learnt (index tables, masks): a published key that matches is skipped, a
    buffer of the module that matches need not be there. Values are cast to the module's dtype.

    Raises ValueError naming every parameter that is missing, left over, of another shape, or
    written twice by `rename`; the module is then left as it was.
    """

    def ignored(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in ignore)

    problems: list[str] = []
    renamed: dict[str, Tensor] = {}
    for key, tensor in state.items():
        if ignored(key):
            continue
        name = rename(key) if rename else key
        if name in renamed:
            problems.append(f"{name} twice (again from {key})")
        renamed[name] = tensor

    own = module.state_dict()
    buffers = {name for name, _ in module.named_buffers()}
    spare = {name for name in own if name in buffers and ignored(name)}
    problems += misfits(own, renamed, spare)
    _refuse(problems, module)
    module.load_state_dict(renamed, strict=False)
    return module.eval()


def load_views(
    module: AnyModule,
    views: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    *,
    ignore: Collection[str] = (),
) -> AnyModule:
    """Fill `module` through views of its tensors under published names and shapes, strictly.

    For modules that keep a published tensor in another shape: `views` share memory with all of
    the module's tensors. Otherwise as `load_reference`, and problems have published names.
    """
    wanted = {
        name: tensor
        for name, tensor in state.items()
        if not any(fnmatchcase(name, pattern) for pattern in ignore)
    }
    _refuse(misfits(views, wanted), module)
    with torch.no_grad():
        for name, view in views.items():
            view.copy_(wanted[name])
    return module.eval()


def misfits(
    own: Mapping[str, Tensor], state: Mapping[str, Tensor], spare: Collection[str] = ()
) -> list[str]:
    """What keeps `state` from filling `own`, a line each; names in `spare` may be missing."""
    missing = [f"{name} missing" for name in own if name not in state and name not in spare]
    unexpected = [f"{name} unexpected" for name in state if name not in own]
    shapes = [
        f"{name} has shape {tuple(tensor.shape)}, needs {tuple(own[name].shape)}"
        for name, tensor in state.items()
        if name in own and tensor.shape != own[name].shape
    ]
    return missing + unexpected + shapes


def _refuse(problems: list[str], module: nn.Module) -> None:
    if problems:
        more = f"; and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise ValueError(
            f"the weights do not fit {type(module).__name__}: {'; '.join(problems[:8])}{more}"
        )


def read_config(
    config: Mapping[str, Any], known: Collection[str] | type, ignore: Collection[str] = ()
) -> dict[str, Any]:
    """The entries of a published config that a model understands, refusing those it does not.

    `known` is the set of understood keys, or a dataclass whose fields they are. Keys in `ignore`
    (training settings, say) are left out. Raises ValueError for any other key, with the nearest
    known one.
    """
    if isinstance(known, type):
        known = [field.name for field in dataclasses.fields(known)]
    unknown = [key for key in config if key not in known and key not in ignore]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        names = ", ".join(map(repr, unknown))
        raise ValueError(f"config has unknown {names}{hint}; known are {', '.join(sorted(known))}")
    return {key: value for key, value in config.items() if key in known}
