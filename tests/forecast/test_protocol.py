"""The paper's benchmark protocol against the numbers measured for it."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sigform_forecast.baselines import LastValue, NLinear
from sigform_forecast.protocol import (
    PUBLISHED,
    Benchmark,
    Features,
    channelwise,
    load_benchmark,
    naive_table,
)

SN24, LAST, PROFILE = "SN24", "last value", "7-day profile"
SHIFTED = "yesterday's mean + 7-day profile"
NAIVE_ROWS = [
    ("ETTh1", "S", SN24, "24:.046/.166 48:.058/.188 168:.087/.230 336:.111/.263 720:.125/.280"),
    ("ETTh1", "S", LAST, "24:.034/.139 48:.050/.171 168:.087/.229 336:.113/.265 720:.129/.283"),
    ("ETTh1", "S", SHIFTED, "24:.036/.147 48:.048/.171 168:.079/.217 336:.103/.253 720:.117/.270"),
    ("ETTh1", "M", SN24, "24:.424/.389 48:.465/.407 168:.571/.462 336:.650/.501 720:.655/.514"),
    ("ETTh1", "M", PROFILE, "24:.350/.373 48:.369/.383 168:.437/.418 336:.469/.431 720:.451/.441"),
    ("ETTh1", "M", PROFILE, "96:.400/.400 192:.446/.422 336:.469/.431 720:.451/.441"),
    ("ETTh1", "M", LAST, "96:1.294/.713 192:1.325/.733 336:1.330/.746 720:1.335/.755"),
    ("ETTh2", "S", SN24, "24:.095/.231 48:.123/.266 168:.189/.339 336:.261/.404 720:.302/.441"),
    ("ETTh2", "M", SN24, "24:.266/.304 48:.322/.339 168:.461/.417 336:.532/.466 720:.525/.474"),
    ("ETTh2", "M", SHIFTED, "24:.203/.277 48:.258/.311 168:.397/.392 336:.471/.443 720:.466/.454"),
]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    folder = os.environ.get("SIGFORM_FIXTURES")
    if not folder:
        pytest.skip("SIGFORM_FIXTURES is not set; needs the folder with data/forecast/ETTh1.csv")
    return Path(folder) / "data" / "forecast"


def write_csv(folder: Path, name: str, rows: int, step: str = "h", **columns: np.ndarray) -> None:
    table = {"date": pd.date_range("2020-01-01", periods=rows, freq=step), **columns}
    pd.DataFrame(table).to_csv(folder / f"{name}.csv", index=False)


@pytest.fixture
def small(tmp_path: Path) -> Benchmark:
    """400 hourly rows of three channels, the target in the middle of the file."""
    values = np.random.default_rng(0).normal(size=(400, 2))
    write_csv(tmp_path, "own", 400, a=values[:, 0], OT=np.arange(400.0), b=values[:, 1])
    return load_benchmark(tmp_path, "own", "M")


@pytest.mark.parametrize(
    ("dataset", "features"), [("ETTh1", "S"), ("ETTh1", "M"), ("ETTh2", "S"), ("ETTh2", "M")]
)
def test_naive_rows_are_reproduced_to_three_digits(
    data_dir: Path, dataset: str, features: Features
) -> None:
    expected = {
        (method, int(h)): score
        for name, kind, method, cells in NAIVE_ROWS
        if (name, kind) == (dataset, features)
        for h, score in (cell.split(":") for cell in cells.split())
    }
    horizons = sorted({h for _, h in expected})
    table = naive_table(load_benchmark(data_dir, dataset, features), horizons)
    for (method, h), score in expected.items():
        got = table[method][h]
        assert f"{got.mse:.3f}/{got.mae:.3f}".replace("0.", ".") == score, (method, h)
        assert got.windows == 2880 - h + 1


def test_ett_splits_are_the_published_ones(data_dir: Path) -> None:
    benchmark = load_benchmark(data_dir, "ETTh1", "M")
    assert benchmark.borders == {"train": (0, 8640), "val": (8640, 11520), "test": (11520, 14400)}
    assert benchmark.columns == ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT")
    assert benchmark.rows_per_day == 24
    windows = benchmark.windows("test", seq_len=96, horizon=24)
    assert len(windows) == 2857
    assert len(benchmark.windows("val", 96, 24)) == 2857
    assert len(benchmark.windows("train", 96, 24)) == 8640 - 96 - 24 + 1
    assert windows.marks[0, 96] == benchmark.times[11520]
    assert windows.marks[-1, -1] == benchmark.times[14399]
    train = benchmark.windows("train", 96, 24)
    assert train.marks[0, 0] == benchmark.times[0]
    assert train.marks[-1, -1] == benchmark.times[8639]


def test_nlinear_reaches_its_published_level_univariate(data_dir: Path) -> None:
    benchmark = load_benchmark(data_dir, "ETTh1", "S")
    model = NLinear().fit(list(benchmark.part("train").T), 24)
    score = benchmark.evaluate(channelwise(model, 24), "test", seq_len=336, horizon=24)
    assert 0.024 < score.mse < 0.028
    assert score.mae == pytest.approx(0.122, abs=0.003)


def test_nlinear_reaches_its_published_level_multivariate(data_dir: Path) -> None:
    benchmark = load_benchmark(data_dir, "ETTh1", "M")
    model = NLinear(max_windows=20_000).fit(list(benchmark.part("train").T), 96)
    score = benchmark.evaluate(channelwise(model, 96), "test", seq_len=336, horizon=96)
    assert 0.355 < score.mse < 0.380
    assert score.mae == pytest.approx(0.394, abs=0.01)


def test_15_minute_ett_has_four_times_the_rows(tmp_path: Path) -> None:
    write_csv(tmp_path, "ETTm9", 57_600, "15min", OT=np.arange(57_600.0))
    benchmark = load_benchmark(tmp_path, "ETTm9")
    assert benchmark.borders["test"] == (46_080, 57_600)
    assert benchmark.rows_per_day == 96
    assert list(naive_table(benchmark, [96])) == ["SN96", LAST, PROFILE, SHIFTED]


def test_other_files_are_split_70_10_20(small: Benchmark) -> None:
    assert small.borders == {"train": (0, 280), "val": (280, 320), "test": (320, 400)}
    assert len(small.windows("test", 48, 24)) == 80 - 24 + 1
    assert len(small.windows("test", 48, 24, stride=10)) == 6


def test_target_is_moved_last(small: Benchmark) -> None:
    assert small.columns == ("a", "b", "OT")
    raw = small.values * small.std + small.mean
    np.testing.assert_allclose(raw[:, 2], np.arange(400.0), atol=1e-9)


def test_scaler_sees_training_rows_only(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=400)
    write_csv(tmp_path, "own", 400, OT=values)
    before = load_benchmark(tmp_path, "own")
    values[280:] += 1e6
    write_csv(tmp_path, "own", 400, OT=values)
    after = load_benchmark(tmp_path, "own")
    assert np.array_equal(before.mean, after.mean)
    assert np.array_equal(before.part("train"), after.part("train"))
    np.testing.assert_allclose(before.part("train").std(axis=0), 1.0)
    assert before.std[0] == pytest.approx(values[:280].std(ddof=0))


def test_contexts_hold_nothing_of_the_targets(small: Benchmark) -> None:
    seen = []

    def predict(contexts: np.ndarray, marks: np.ndarray) -> np.ndarray:
        assert contexts.shape[1:] == (48, 3)
        assert marks.shape[1:] == (72,)
        assert not contexts.flags.writeable
        seen.append((contexts[:, -1, 2], marks[:, 47], marks[:, 48]))
        return np.zeros((len(contexts), 24, 3))

    score = small.evaluate(predict, "test", seq_len=48, horizon=24, batch_size=7)
    last, at_last, at_first = (np.concatenate(parts) for parts in zip(*seen, strict=True))
    assert score.windows == len(last) == 57
    raw = last * small.std[2] + small.mean[2]
    np.testing.assert_allclose(raw, np.arange(319.0, 319.0 + 57.0), atol=1e-9)
    assert (at_first - at_last == np.timedelta64(1, "h")).all()
    assert np.array_equal(at_first, small.times[320 : 320 + 57])


def test_constant_channel_is_not_divided_by_zero(tmp_path: Path) -> None:
    write_csv(tmp_path, "own", 100, OT=np.full(100, 5.0))
    benchmark = load_benchmark(tmp_path, "own")
    assert benchmark.std.tolist() == [1.0]
    assert (benchmark.values == 0.0).all()


def test_batches_give_the_score_of_everything_at_once(small: Benchmark) -> None:
    predict = channelwise(LastValue(), 12)
    streamed = small.evaluate(predict, "test", seq_len=24, horizon=12, batch_size=10)
    windows = small.windows("test", 24, 12)
    error = predict(windows.contexts, windows.marks) - windows.targets
    assert streamed.mse == pytest.approx(float((error**2).mean()), rel=1e-12)
    assert streamed.mae == pytest.approx(float(np.abs(error).mean()), rel=1e-12)
    assert np.shares_memory(windows.values, small.values)


def test_every_window_counts(small: Benchmark) -> None:
    # Only the last window is forecast wrongly; a dropped last batch would hide it.
    last_target = small.times[-1]

    def predict(_contexts: np.ndarray, marks: np.ndarray) -> np.ndarray:
        first_row = np.searchsorted(small.times, marks[:, 24])
        rows = first_row[:, None] + np.arange(12)
        return small.values[rows] + (marks[:, -1] == last_target)[:, None, None]

    score = small.evaluate(predict, "test", seq_len=24, horizon=12, batch_size=32)
    assert score.mse == pytest.approx(1.0 / 69.0)


def test_ms_scores_the_target_only(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(size=(200, 2))
    write_csv(tmp_path, "own", 200, OT=noise[:, 0], other=noise[:, 1])
    both = load_benchmark(tmp_path, "own", "MS")
    alone = load_benchmark(tmp_path, "own", "S")
    expected = alone.evaluate(channelwise(LastValue(), 6), "test", 12, 6)
    assert both.evaluate(channelwise(LastValue(), 6), "test", 12, 6) == expected

    def target_only(contexts: np.ndarray, _marks: np.ndarray) -> np.ndarray:
        return np.repeat(contexts[:, -1:, -1:], 6, axis=1)

    assert both.evaluate(target_only, "test", 12, 6) == expected


def test_own_marks_are_sliced_along(small: Benchmark) -> None:
    rows = np.arange(400)[:, None] * np.array([1, 10])

    def predict(contexts: np.ndarray, marks: np.ndarray) -> np.ndarray:
        assert marks.shape == (len(contexts), 36, 2)
        assert (np.diff(marks, axis=1) == [1, 10]).all()
        assert marks[0, 24, 0] >= 320
        return np.zeros((len(contexts), 12, 3))

    small.evaluate(predict, "test", 24, 12, marks=rows)
    with pytest.raises(ValueError, match="marks has 399 rows"):
        small.evaluate(predict, "test", 24, 12, marks=rows[1:])


def test_wrong_forecasts_are_refused(small: Benchmark) -> None:
    with pytest.raises(ValueError, match=r"returned shape \(57, 12, 1\); needs \(57, 12, 3\)"):
        small.evaluate(lambda contexts, _: np.zeros((len(contexts), 12, 1)), "test", 24, 12, 57)
    with pytest.raises(ValueError, match="NaN or infinite"):
        small.evaluate(lambda contexts, _: np.full((len(contexts), 12, 3), np.nan), "test", 24, 12)


def test_impossible_windows_are_refused(small: Benchmark) -> None:
    with pytest.raises(ValueError, match="horizon is 0"):
        small.windows("test", 24, 0)
    with pytest.raises(ValueError, match="val has 64 rows with context; a window needs 65"):
        small.windows("val", 24, 41)
    with pytest.raises(ValueError, match="split is 'valid'; needs one of train, val, test"):
        small.windows("valid", 24, 12)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="batch_size is 0"):
        next(small.windows("test", 24, 12).batches(0))


def test_bad_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.csv is not there"):
        load_benchmark(tmp_path, "none")
    write_csv(tmp_path, "own", 100, other=np.ones(100))
    with pytest.raises(ValueError, match="has no column 'OT'"):
        load_benchmark(tmp_path, "own")
    with pytest.raises(ValueError, match="features is 'X'"):
        load_benchmark(tmp_path, "own", "X")  # pyright: ignore[reportArgumentType]
    write_csv(tmp_path, "own", 100, OT=np.r_[np.ones(99), np.nan])
    with pytest.raises(ValueError, match="missing or infinite"):
        load_benchmark(tmp_path, "own")
    write_csv(tmp_path, "ETTh1", 14_399, OT=np.ones(14_399))
    with pytest.raises(ValueError, match="has 14399 rows; needs 14400"):
        load_benchmark(tmp_path, "ETTh1")
    write_csv(tmp_path, "own", 4, OT=np.ones(4))
    with pytest.raises(ValueError, match="three parts"):
        load_benchmark(tmp_path, "own")
    write_csv(tmp_path, "own", 100, "D", OT=np.arange(100.0))
    with pytest.raises(ValueError, match="has 1 row a day"):
        naive_table(load_benchmark(tmp_path, "own"), [2])


def test_published_numbers() -> None:
    informer = PUBLISHED["Informer"]
    assert informer["ETTh1", "S"][24] == (0.098, 0.247)
    assert informer["ETTh2", "M"][168] == (3.489, 1.515)
    assert PUBLISHED["Informer† (full attention)"]["ETTh1", "S"][720] == (0.257, 0.421)
    assert all(len(row) == 5 for model in PUBLISHED.values() for row in model.values())
