"""The methods of this package: what they are and where they come from."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method's name in columns and options, what it does, and its source."""

    name: str
    what: str
    source: str


METHODS = (
    Method(
        name="Informer",
        what="ProbSparse transformer on normalised windows, a residual on the seasonal profile",
        source="arXiv 2012.07436",
    ),
    Method(
        name="NLinear",
        what="one linear map from the look-back to the horizon, solved in closed form",
        source="arXiv 2205.13504",
    ),
    Method(
        name="SeasonalProfile",
        what="mean of the last seven seasons around the mean of the last one",
        source="baseline",
    ),
    Method(name="SeasonalNaive", what="the last season again", source="baseline"),
    Method(name="LastValue", what="the last value again", source="baseline"),
    Method(
        name="AutoETS",
        what="exponential smoothing chosen by AICc, a fit a window (extra: baselines)",
        source="statsforecast",
    ),
)
