"""Conformal intervals: the finite-sample rule, its coverage, and honest measurement."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sigform_forecast.intervals import Conformal, leave_one_out_coverage, seasonal_scale

NAN = np.nan


def within_binomial(share: float, probability: float, trials: int) -> bool:
    """Whether a share is within four standard deviations of its expectation."""
    deviation = np.sqrt(probability * (1.0 - probability) / trials)
    return bool(abs(share - probability) <= 4.0 * deviation)


def test_widths_are_the_stated_order_statistics() -> None:
    errors = np.random.default_rng(0).permutation(np.arange(1.0, 40.0))[:, None]  # n = 39
    fitted = Conformal.fit(-errors)
    assert fitted.levels == (80, 95)
    assert fitted.half_widths.tolist() == [[32.0], [38.0]]
    assert fitted.windows == 39
    assert fitted.notes == ()


def test_smallest_number_of_windows_for_each_level() -> None:
    errors = np.arange(1.0, 20.0)[:, None]
    assert Conformal.fit(errors).notes == ()
    assert Conformal.fit(errors).half_widths[1] == 19.0
    assert Conformal.fit(errors[:18]).notes != ()
    assert Conformal.fit(errors[:4], levels=(80,)).notes == ()
    assert Conformal.fit(errors[:3], levels=(80,)).notes != ()


def test_exchangeable_errors_are_covered_as_promised() -> None:
    rng = np.random.default_rng(1)
    errors, fresh = rng.standard_t(3, size=(39, 4000)), rng.standard_t(3, size=(1, 4000))
    bounds = Conformal.fit(errors).interval(np.zeros((1, 4000)))
    for level in (80, 95):
        low, high = bounds[level]
        share = float(((low <= fresh) & (fresh <= high)).mean())
        assert within_binomial(share, level / 100.0, 4000)


def test_few_windows_pool_the_nearest_steps() -> None:
    # 10 windows: 95 % needs 19, so each step borrows from its neighbours, the ends from one side.
    errors = np.arange(1.0, 11.0)[:, None] + np.array([0.0, 100.0, 200.0, 300.0])
    fitted = Conformal.fit(errors)
    assert fitted.half_widths[0].tolist() == [9.0, 109.0, 209.0, 309.0]
    # ends: 20 errors, the 20th; middle: 30 errors, the 30th.
    assert fitted.half_widths[1].tolist() == [110.0, 210.0, 310.0, 310.0]
    (note,) = fitted.notes
    assert note.startswith("95 %: fewer than 19 windows at some step")


def test_too_few_errors_give_the_largest_and_say_so() -> None:
    fitted = Conformal.fit(np.array([[1.0, 2.0, -5.0]]), levels=(80, 95))
    assert fitted.half_widths.tolist() == [[5.0] * 3, [5.0] * 3]
    assert len(fitted.notes) == 2
    assert all("promises nothing" in note for note in fitted.notes)


def test_unknown_errors_do_not_count() -> None:
    errors = np.arange(1.0, 41.0)[:, None] * np.ones(2)
    errors[39, 1] = NAN
    assert Conformal.fit(errors, levels=(80,)).half_widths.tolist() == [[33.0, 32.0]]


def test_series_of_different_scale_share_widths() -> None:
    rng = np.random.default_rng(2)
    scale = np.repeat([1e-3, 1.0, 1e6], 40)
    errors = rng.normal(size=(120, 5))
    plain = Conformal.fit(errors)
    scaled = Conformal.fit(errors * scale[:, None], scale=scale)
    np.testing.assert_allclose(scaled.half_widths, plain.half_widths, rtol=1e-12)
    forecast = np.array([[10.0] * 5, [2e7] * 5])
    low, high = scaled.interval(forecast, scale=np.array([1e-3, 1e6]))[80]
    expected = plain.half_widths[0] * np.array([[1e-3], [1e6]])
    np.testing.assert_allclose((high - low) / 2.0, expected, rtol=1e-6)
    np.testing.assert_allclose((high + low) / 2.0, forecast, rtol=1e-12)


def test_a_shorter_horizon_uses_the_first_steps() -> None:
    fitted = Conformal.fit(np.arange(1.0, 40.0)[:, None] * np.array([1.0, 2.0, 3.0]))
    low, high = fitted.interval(np.zeros((1, 2)))[80]
    assert high.tolist() == [[32.0, 64.0]]
    assert low.tolist() == [[-32.0, -64.0]]


@settings(max_examples=150, deadline=None)
@given(
    errors=st.tuples(st.integers(1, 30), st.integers(1, 6)).flatmap(
        lambda shape: arrays(
            np.float64, shape, elements=st.floats(-1e6, 1e6) | st.just(NAN)
        ).filter(lambda drawn: np.isfinite(drawn).any())
    ),
    levels=st.lists(st.integers(1, 99), min_size=1, max_size=4),
)
def test_levels_nest_and_stay_finite(errors: np.ndarray, levels: list[int]) -> None:
    fitted = Conformal.fit(errors, levels)
    assert fitted.levels == tuple(sorted(set(levels)))
    assert np.isfinite(fitted.half_widths).all()
    assert (fitted.half_widths >= 0.0).all()
    assert (np.diff(fitted.half_widths, axis=0) >= 0.0).all()
    bounds = fitted.interval(np.zeros((2, errors.shape[1])))
    for inner, outer in zip(fitted.levels, fitted.levels[1:], strict=False):
        assert (bounds[outer][0] <= bounds[inner][0]).all()
        assert (bounds[outer][1] >= bounds[inner][1]).all()


def test_measured_coverage_of_exchangeable_errors() -> None:
    errors = np.random.default_rng(3).normal(size=(150, 24))
    measured = leave_one_out_coverage(errors, starts=np.arange(150) * 24)
    assert measured.windows == 150
    assert measured.notes == ()
    for level in (80, 95):
        assert within_binomial(measured.overall[level], level / 100.0, 150 * 24)
        assert measured.per_step[level].shape == (24,)
        mean = float(measured.per_step[level].mean())
        assert mean == pytest.approx(measured.overall[level], rel=1e-12)


def test_no_window_judges_itself_or_one_it_overlaps() -> None:
    rng = np.random.default_rng(4)
    errors, starts = rng.normal(size=(60, 3)), np.sort(rng.integers(0, 200, size=60))
    measured = leave_one_out_coverage(errors, levels=(80,), starts=starts, gap=10)
    inside = []
    for row, start in enumerate(starts):
        judges = errors[np.abs(starts - start) >= 10]
        inside.append(np.abs(errors[row]) <= Conformal.fit(judges, (80,)).half_widths[0])
    assert measured.overall[80] == pytest.approx(np.mean(inside), rel=1e-12)
    np.testing.assert_allclose(measured.per_step[80], np.mean(inside, axis=0))


def test_an_odd_stretch_is_not_hidden_by_its_own_windows() -> None:
    errors = np.ones((100, 4))
    errors[40:44] = 50.0  # four overlapping windows, four rows
    measured = leave_one_out_coverage(errors, levels=(99,))
    assert measured.overall[99] == pytest.approx(0.96)


def test_windows_of_other_series_at_the_same_time_are_left_out_too() -> None:
    starts = np.tile(np.arange(30) * 2, 2)
    errors = np.ones((60, 2))
    errors[[7, 37]] = 9.0  # the same moment in both series
    measured = leave_one_out_coverage(errors, levels=(80, 95), starts=starts)
    assert measured.overall[95] == pytest.approx(58.0 / 60.0)


def test_too_few_windows_apart_are_measured_in_blocks() -> None:
    errors = np.random.default_rng(5).normal(size=(40, 24))
    measured = leave_one_out_coverage(errors)
    assert measured.windows == 40
    assert any("measured in 5 blocks" in note for note in measured.notes)
    inside = []
    for block in np.array_split(np.arange(40), 5):
        judges = np.delete(errors, block, axis=0)
        inside.append(np.abs(errors[block]) <= Conformal.fit(judges, (80,)).half_widths[0])
    assert measured.overall[80] == pytest.approx(np.mean(np.concatenate(inside)))


def test_many_windows_are_thinned_evenly() -> None:
    errors = np.random.default_rng(6).normal(size=(1000, 2))
    measured = leave_one_out_coverage(errors)
    assert measured.windows == 200
    assert within_binomial(measured.overall[80], 0.8, 400)


def test_coverage_ignores_unknown_truths() -> None:
    errors = np.random.default_rng(7).normal(size=(50, 3))
    errors[:, 2] = NAN
    errors[10] = NAN
    measured = leave_one_out_coverage(errors, starts=np.arange(50) * 3, levels=(80,))
    assert measured.windows == 49
    assert np.isnan(measured.per_step[80][2])
    assert measured.overall[80] == pytest.approx(measured.per_step[80][:2].mean())


def test_seasonal_scale() -> None:
    assert seasonal_scale(np.array([1.0, 5.0, 2.0, 8.0]), 2) == 2.0
    assert seasonal_scale(np.array([1.0, NAN, 2.0, 8.0]), 2) == 1.0
    assert seasonal_scale(np.array([1.0, 5.0]), 24) == 4.0
    assert seasonal_scale(np.array([1.0, 5.0, 1.0, 5.0]), 2) == 4.0
    assert seasonal_scale(np.full(9, -3.0), 2) == 3.0
    assert seasonal_scale(np.zeros(9), 2) == 1.0


@pytest.mark.parametrize(
    ("errors", "levels", "scale", "message"),
    [
        (np.ones(3), (80,), None, r"errors has shape \(3,\)"),
        (np.ones((0, 3)), (80,), None, "no known value"),
        (np.full((2, 3), NAN), (80,), None, "no known value"),
        (np.array([[1.0, np.inf]]), (80,), None, "infinite"),
        (np.ones((2, 3)), (), None, "levels is"),
        (np.ones((2, 3)), (80, 100), None, "levels is"),
        (np.ones((2, 3)), (0.9,), None, "levels is"),
        (np.ones((2, 3)), (80,), np.ones(3), "scale has shape"),
        (np.ones((2, 3)), (80,), np.array([1.0, 0.0]), "positive"),
    ],
)
def test_bad_input_is_refused(
    errors: np.ndarray, levels: tuple[int, ...], scale: np.ndarray | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Conformal.fit(errors, levels, scale)
    with pytest.raises(ValueError, match=message):
        leave_one_out_coverage(errors, levels, scale)


def test_bad_windows_and_forecasts_are_refused() -> None:
    with pytest.raises(ValueError, match="have 1 start"):
        leave_one_out_coverage(np.ones((3, 2)), starts=np.zeros(3))
    with pytest.raises(ValueError, match="have 1 start"):
        leave_one_out_coverage(np.array([[1.0, 2.0], [NAN, NAN]]))
    with pytest.raises(ValueError, match="gap is 0"):
        leave_one_out_coverage(np.ones((3, 2)), gap=0)
    with pytest.raises(ValueError, match="starts has shape"):
        leave_one_out_coverage(np.ones((3, 2)), starts=np.arange(2))
    fitted = Conformal.fit(np.ones((20, 3)))
    with pytest.raises(ValueError, match="at most 3 steps"):
        fitted.interval(np.ones((1, 4)))
    with pytest.raises(ValueError, match="scale has shape"):
        fitted.interval(np.ones((2, 3)), scale=np.ones(1))
    with pytest.raises(ValueError, match="season_length is 0"):
        seasonal_scale(np.ones(3), 0)
