"""The report: what it says of the winner, and that it says it in every form."""

from __future__ import annotations

import json

import pytest

from sigform_forecast.backtest import Score
from sigform_forecast.report import Report


def report(model: str, *, chosen: bool = True, **mases: float) -> Report:
    """A report of methods with these errors, the least first."""
    scores = [
        Score(name=name, mae=10 * mase, rmse=12 * mase, mase=mase, coverage={80: 0.81, 95: 0.944})
        for name, mase in sorted(mases.items(), key=lambda item: item[1])
    ]
    return Report(
        horizon=24, model=model, chosen=chosen, step="hourly, season 24", series=3, windows=50,
        season_length=24, look_back=96, profile=True, informer_steps=120, scores=tuple(scores),
        seconds=12.3, notes=("filled 2 values",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (report("Informer", Informer=0.5, SeasonalNaive=1.0, LastValue=2.0, NLinear=0.6),
         "Informer has the least error, 50 % below SeasonalNaive."),
        (report("Informer", Informer=0.5, NLinear=0.6), "Informer has the least error."),
        (report("NLinear", Informer=0.6, NLinear=0.5),
         "A simpler method wins: NLinear has the least error and is used; Informer's is 20 % "
         "larger."),
        (report("LastValue", LastValue=0.6, NLinear=0.7), "LastValue has the least error."),
        (report("Informer", chosen=False, Informer=0.6, NLinear=0.5),
         "NLinear forecasts these windows better: the error of Informer is 20 % larger. "
         "--model auto would use NLinear."),
        # A constant series is forecast without any error.
        (report("Informer", chosen=False, Informer=0.1, LastValue=0.0),
         "LastValue forecasts these windows better: the error of Informer is larger. "
         "--model auto would use LastValue."),
        (report("LastValue", Informer=0.0, LastValue=0.0),
         "A simpler method wins: LastValue has the least error and is used; Informer's is as "
         "small."),
        (report("Informer", Informer=0.0, LastValue=0.0), "Informer has the least error."),
    ],
)  # fmt: skip
def test_the_verdict_is_plain(made: Report, says: str) -> None:
    assert made.verdict() == says
    assert says in made.text()
    assert made.summary().splitlines()[-1] == says
    assert made.to_dict()["verdict"] == says


def test_the_text_holds_the_measured_numbers() -> None:
    text = report("Informer", Informer=0.5, SeasonalNaive=1.0).text()
    assert text.startswith("# Forecast of 24 rows by Informer\n")
    assert "| Informer | 5 | 6 | 0.500 | 81.0 % | 94.4 % |" in text
    assert "3 series, hourly, season 24; 50 backtest windows" in text
    assert (
        "Informer reads 96 rows (chosen on validation), as a residual on the seasonal profile"
        in text
    )
    assert "trained for 120 steps" in text
    assert "- filled 2 values" in text
    assert all(line.count("|") == 7 for line in text.splitlines() if line.startswith("|"))


def test_the_summary_is_a_table_of_equal_columns() -> None:
    *table, _ = report("Informer", Informer=0.5, SeasonalNaive=1.0).summary().splitlines()
    assert table[0].split() == ["method", "MAE", "RMSE", "MASE", "80", "%", "covers", "95", "%",
                                "covers"]  # fmt: skip
    assert len({len(line) for line in table}) == 1


def test_an_unmeasured_coverage_is_a_dash() -> None:
    score = Score(name="LastValue", mae=1.0, rmse=1.0, mase=1.0, coverage={})
    made = Report(horizon=3, model="LastValue", scores=(score,))
    assert made.table()[1] == [["LastValue", "1", "1", "1.000"]]


def test_without_a_backtest_it_says_so() -> None:
    made = Report(horizon=3, model="Informer", notes=("published",))
    assert "No backtest was made." in made.text()
    assert "- published" in made.text()
    assert "no backtest was made" in made.summary()
    assert made.to_dict()["verdict"] == ""


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        (True, "Training did not improve on the seasonal profile, so that is what it forecasts."),
        (False, "Training did not improve on the last value, so that is what it forecasts."),
    ],
)
def test_training_in_vain_is_said(profile: bool, says: str) -> None:
    made = Report(horizon=3, look_back=9, profile=profile, informer_steps=0)
    assert made.informer_line().endswith(says)


def test_it_is_json() -> None:
    made = report("Informer", Informer=0.5)
    found = json.loads(json.dumps(made.to_dict()))
    assert found["scores"][0]["coverage"] == {"80": 0.81, "95": 0.944}
    assert found["horizon"] == 24
