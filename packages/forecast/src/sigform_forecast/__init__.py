"""Forecast tables of time series: Informer beside honest baselines, with measured intervals.

    from sigform_forecast import Forecaster

    forecaster = Forecaster(24).fit(df)   # df: unique_id, ds, y
    forecaster.predict()                  # unique_id, ds, <model>, <model>-lo-80, ...
    print(forecaster.report_.text())

Nothing heavy is imported before it is used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sigform_forecast.forecaster import Forecaster
    from sigform_forecast.informer import Informer, InformerConfig, InformerStack
    from sigform_forecast.reading import Table, read_table
    from sigform_forecast.report import Report

__all__ = [
    "Forecaster",
    "Informer",
    "InformerConfig",
    "InformerStack",
    "Report",
    "Table",
    "read_table",
]

_HOMES = {
    "Forecaster": "forecaster",
    "Informer": "informer",
    "InformerConfig": "informer",
    "InformerStack": "informer",
    "Report": "report",
    "Table": "reading",
    "read_table": "reading",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"sigform_forecast.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
