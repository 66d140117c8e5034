"""How sigform commands behave: late loading, one-line errors, atomic outputs, progress, engines.

Everything is reached from here and loaded on first use, so that `import sigform_kit` costs
nothing. Needs Click, and rich where a terminal shows progress; knows nothing about models.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sigform_kit.commands import App, LateCommand
    from sigform_kit.console import Console
    from sigform_kit.doctor import Check, run_checks
    from sigform_kit.engines import Outcome, run_items
    from sigform_kit.errors import InputError, InputsFailedError, UsageError, describe, did_you_mean
    from sigform_kit.inputs import Input, expand_inputs
    from sigform_kit.jsonlines import to_json
    from sigform_kit.options import Common, common_options
    from sigform_kit.outputs import Policy, check_target, check_targets, output
    from sigform_kit.running import run
    from sigform_kit.settings import resolved_settings, to_toml, write_settings

__all__ = [
    "App",
    "Check",
    "Common",
    "Console",
    "Input",
    "InputError",
    "InputsFailedError",
    "LateCommand",
    "Outcome",
    "Policy",
    "UsageError",
    "check_target",
    "check_targets",
    "common_options",
    "describe",
    "did_you_mean",
    "expand_inputs",
    "output",
    "resolved_settings",
    "run",
    "run_checks",
    "run_items",
    "to_json",
    "to_toml",
    "write_settings",
]

_HOMES = {
    "commands": ("App", "LateCommand"),
    "console": ("Console",),
    "doctor": ("Check", "run_checks"),
    "engines": ("Outcome", "run_items"),
    "errors": ("InputError", "InputsFailedError", "UsageError", "describe", "did_you_mean"),
    "inputs": ("Input", "expand_inputs"),
    "jsonlines": ("to_json",),
    "options": ("Common", "common_options"),
    "outputs": ("Policy", "check_target", "check_targets", "output"),
    "running": ("run",),
    "settings": ("resolved_settings", "to_toml", "write_settings"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
