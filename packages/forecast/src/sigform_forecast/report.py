"""The short report of a fit: every method on the same windows, and what was chosen and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

from sigform_forecast.backtest import Score

if TYPE_CHECKING:
    from sigform_forecast.fitting import Fitted
    from sigform_forecast.settings import Settings
    from sigform_forecast.training import Trained

SIMPLE = ("LastValue", "SeasonalNaive", "SeasonalProfile")


@dataclass(frozen=True, kw_only=True)
class Report:
    """Scores of every method, the least error first; lengths in rows, errors in user's units.

    `model` is the method that forecasts. `informer_steps` are the training steps behind its
    weights, 0 when training brought nothing over the seasonal profile it starts from;
    `informer_share` is how much of its addition validation kept, 0 to 1.
    """

    horizon: int
    model: str = ""
    chosen: bool = False  # by the backtest, rather than by the user
    step: str = ""  # the calendar in words
    series: int = 0
    windows: int = 0
    season_length: int = 1
    look_back: int | None = None
    profile: bool | None = None
    given: bool = False  # season or look-back by the user, rather than by validation
    informer_steps: int | None = None
    informer_share: float | None = None
    scores: tuple[Score, ...] = ()
    seconds: float = 0.0
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        fitted: Fitted,
        settings: Settings,
        scores: Sequence[Score],
        trained: Trained | None,
        *,
        seconds: float,
        notes: Sequence[str],
    ) -> Self:
        """Put together what a fit found."""
        config = None if trained is None else trained.network.config
        return cls(
            horizon=settings.h,
            model=fitted.model,
            chosen=settings.model == "auto",
            step=fitted.calendar.describe(),
            series=len(fitted.ids),
            windows=0 if fitted.backtest is None else len(fitted.backtest.truth),
            season_length=fitted.season_length,
            look_back=None if config is None else config.look_back,
            profile=None if config is None else config.profile,
            given=settings.look_back is not None or settings.season_length is not None,
            informer_steps=None if trained is None else trained.steps,
            informer_share=None if trained is None else trained.gate,
            scores=tuple(scores),
            seconds=seconds,
            notes=tuple(notes),
        )

    @property
    def best(self) -> Score:
        """The score of the method with the least error."""
        return self.scores[0]

    def verdict(self) -> str:
        """In a sentence, whether the method used is the best, and by how much."""
        used = next(score for score in self.scores if score.name == self.model)
        informer = next((score for score in self.scores if score.name == "Informer"), None)
        if used.mase > self.best.mase:
            return (
                f"{self.best.name} forecasts these windows better: the error of {used.name} is "
                f"{larger(used, self.best)}. --model auto would use {self.best.name}."
            )
        if used.name == "Informer":
            naive = next((s for s in self.scores if s.name in SIMPLE), None)
            if naive is None or naive.mase == 0:
                return "Informer has the least error."
            less = 100 * (1 - used.mase / naive.mase)
            return f"Informer has the least error, {less:.0f} % below {naive.name}."
        if informer is None:
            return f"{used.name} has the least error."
        return (
            f"A simpler method wins: {used.name} has the least error and is used; "
            f"Informer's is {larger(informer, used)}."
        )

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows of the scores, as text."""
        levels = sorted({level for score in self.scores for level in score.coverage})
        header = ["method", "MAE", "RMSE", "MASE", *(f"{level} % covers" for level in levels)]
        rows = [
            [
                score.name,
                f"{score.mae:.4g}",
                f"{score.rmse:.4g}",
                f"{score.mase:.3f}",
                *(f"{100 * score.coverage[lv]:.1f} %" if score.coverage else "-" for lv in levels),
            ]
            for score in self.scores
        ]
        return header, rows

    def summary(self) -> str:
        """The table and the verdict as plain text, for a terminal."""
        if not self.scores:
            return f"forecast of {self.horizon} rows by {self.model}; no backtest was made"
        header, rows = self.table()
        widths = [max(len(row[n]) for row in [header, *rows]) for n in range(len(header))]
        lines = [
            "  ".join(
                cell.ljust(width) if n == 0 else cell.rjust(width)
                for n, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in [header, *rows]
        ]
        return "\n".join([*lines, self.verdict()])

    def text(self) -> str:
        """The report in Markdown."""
        header, rows = self.table()
        title = f"# Forecast of {self.horizon} rows by {self.model}"
        if not self.scores:
            notes = [f"- {note}" for note in self.notes]
            return "\n".join([title, "", "No backtest was made.", "", *notes]) + "\n"
        lines = [
            title,
            "",
            self.verdict(),
            "",
            f"{self.series} series, {self.step}; {self.windows} backtest windows at the end of the "
            f"data; season {self.season_length} rows; {self.seconds:.0f} s.",
            "",
            "| " + " | ".join(header) + " |",
            "|" + "---|" * len(header),
            *("| " + " | ".join(row) + " |" for row in rows),
            "",
            "MASE is the error relative to a seasonal naive step on the training part. An interval "
            "covers well when its measured share is near its level.",
        ]
        if self.look_back is not None:
            lines += ["", self.informer_line()]
        if self.notes:
            lines += ["", "## Notes", "", *(f"- {note}" for note in self.notes)]
        return "\n".join(lines) + "\n"

    def informer_line(self) -> str:
        """How the network came about, in a sentence or two."""
        residual = "as a residual on the seasonal profile" if self.profile else "on its own"
        by = "as given" if self.given else "chosen on validation"
        line = f"Informer reads {self.look_back} rows ({by}), {residual}."
        if self.informer_steps:
            share = "" if self.informer_share is None else f", and {self.informer_share:.0%} of "
            kept = f"{share}what it adds is kept" if share else ""
            return f"{line} It was trained for {self.informer_steps} steps{kept}."
        start = "the seasonal profile" if self.profile else "the last value"
        return f"{line} Training did not improve on {start}, so that is what it forecasts."

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return {**asdict(self), "verdict": self.verdict() if self.scores else ""}


def larger(score: Score, least: Score) -> str:
    """How much larger an error is than the least, which may be none at all."""
    if least.mase > 0:
        return f"{100 * (score.mase / least.mase - 1):.0f} % larger"
    return "larger" if score.mase > 0 else "as small"
