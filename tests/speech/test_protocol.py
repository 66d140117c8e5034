"""The evaluation set: the same for everyone, fair to the readers, and mixed as it says."""

import hashlib
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from sigform_kit import InputError
from sigform_speech.protocol import (
    LEVELS,
    PEAK,
    Mixture,
    active_rms,
    evaluation_mixtures,
    measure,
)

RATE = 8000


def speech(seconds: float, seed: int, rate: int = RATE) -> NDArray[np.float32]:
    """Noise that swells and falls silent, as a voice does."""
    samples = round(seconds * rate)
    swell = np.sin(np.pi * np.arange(samples) / rate).clip(0) * 0.3
    return (swell * np.random.default_rng(seed).standard_normal(samples)).astype(np.float32)


def make_corpus(root: Path, genders: str = "FFFMMM", rate: int = RATE) -> Path:
    for reader, _ in enumerate(genders):
        folder = root / "test" / str(100 + reader)
        folder.mkdir(parents=True)
        for number, seconds in enumerate((1.0, 4.5, 9.5)):
            signal = speech(seconds, 10 * reader + number, rate)
            soundfile.write(folder / f"{number}.flac", signal, rate)
    lines = [f"{100 + reader},{gender}" for reader, gender in enumerate(genders)]
    (root / "speakers.csv").write_text("\n".join(["speaker_id,gender", *lines]) + "\n")
    return root


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return make_corpus(tmp_path / "corpus")


def reference_data() -> Path:
    folder = os.environ.get("SIGFORM_FIXTURES")
    if folder is None:
        pytest.skip("SIGFORM_FIXTURES is not set; needs the folder with data/speech")
    return Path(folder) / "data/speech"


def test_the_committed_set_is_the_same_everywhere() -> None:
    mixtures = evaluation_mixtures(reference_data())
    pairings = Counter(recipe.pairing for recipe in mixtures.recipes)
    assert pairings == {"FF": 67, "FM": 67, "MM": 66}
    assert len({recipe.speakers for recipe in mixtures.recipes}) == 200
    text = "\n".join(map(repr, mixtures.recipes))
    assert hashlib.sha256(text.encode()).hexdigest() == (
        "8b7f88892f167270b88be2bf0c7cc8b12cb63c4dee23216e356ccc99eeafd428"
    )
    digest = hashlib.sha256()
    for index in (0, 57, 199):
        digest.update(np.round(mixtures[index].mixture * 32768).astype("<i2").tobytes())
    assert digest.hexdigest() == "eb5cd5cf28c70b751bfd9b69fd19e4427f632b789ee56be286fa47c4f49fe5a2"


def test_readers_take_turns_and_pairs_do_not_come_again_early(corpus: Path) -> None:
    recipes = evaluation_mixtures(corpus, count=27).recipes
    assert [recipe.pairing for recipe in recipes[:4]] == ["FF", "FM", "MM", "FF"]
    mixed = [frozenset(recipe.speakers) for recipe in recipes if recipe.pairing == "FM"]
    assert len(set(mixed)) == 9
    assert max(Counter(name for pair in mixed for name in pair).values()) == 3
    assert all(len(set(recipe.speakers)) == 2 for recipe in recipes)


def test_a_smaller_set_begins_a_larger_one_and_a_seed_changes_it(corpus: Path) -> None:
    recipes = evaluation_mixtures(corpus, count=12).recipes
    assert evaluation_mixtures(corpus, count=5).recipes == recipes[:5]
    assert evaluation_mixtures(corpus, count=12, seed=1).recipes != recipes
    assert len({(r.utterances, r.starts, r.level) for r in recipes}) == 12


def test_mixtures_are_cut_and_levelled_as_their_recipes_say(corpus: Path) -> None:
    mixtures = evaluation_mixtures(corpus, count=9)
    for recipe, item in zip(mixtures.recipes, mixtures, strict=True):
        assert item.sources.shape == (2, len(item.mixture))
        assert 3 * RATE <= len(item.mixture) <= 8 * RATE
        assert item.mixture.dtype == item.sources.dtype == np.float32
        assert np.array_equal(item.mixture, item.sources.sum(0))
        assert max(np.abs(item.mixture).max(), np.abs(item.sources).max()) <= PEAK + 1e-6
        first, second = (active_rms(source, RATE) for source in item.sources)
        assert 20 * np.log10(first / second) == pytest.approx(recipe.level, abs=1e-3)
        assert abs(recipe.level) <= LEVELS
        for name, start, source in zip(recipe.utterances, recipe.starts, item.sources, strict=True):
            whole, _ = soundfile.read(corpus / name)
            part = whole[start : start + len(source)]
            assert np.corrcoef(part, source)[0, 1] == pytest.approx(1, abs=1e-5)
    assert max(recipe.level for recipe in mixtures.recipes) > 0
    assert min(recipe.level for recipe in mixtures.recipes) < 0


def test_slices_stay_lazy(corpus: Path) -> None:
    mixtures = evaluation_mixtures(corpus, count=6)
    for path in corpus.rglob("*.flac"):
        path.unlink()
    assert len(mixtures[2:4]) == 2
    with pytest.raises(InputError, match=r"\.flac cannot be read"):
        mixtures[2:4][0]


def test_active_speech_does_not_count_pauses() -> None:
    sound = 0.1 * np.random.default_rng(0).standard_normal(RATE)
    assert active_rms(np.concatenate([sound, np.zeros(3 * RATE)]), RATE) == pytest.approx(
        active_rms(sound, RATE), rel=0.02
    )


@pytest.mark.parametrize(
    ("genders", "expected"), [("FF", {"FF"}), ("FM", {"FM"}), ("FFM", {"FF", "FM"})]
)
def test_pairings_without_readers_are_left_out(
    tmp_path: Path, genders: str, expected: set[str]
) -> None:
    mixtures = evaluation_mixtures(make_corpus(tmp_path, genders), count=6)
    assert {recipe.pairing for recipe in mixtures.recipes} == expected


def test_without_known_genders_any_two_readers_are_paired(corpus: Path) -> None:
    (corpus / "speakers.csv").unlink()
    mixtures = evaluation_mixtures(corpus, count=20)
    assert {recipe.pairing for recipe in mixtures.recipes} == {""}
    assert len({frozenset(recipe.speakers) for recipe in mixtures.recipes}) == 15
    assert mixtures[0].group == ""


def test_folders_that_are_no_corpus_are_refused(corpus: Path) -> None:
    with pytest.raises(InputError, match="dev is not a folder"):
        evaluation_mixtures(corpus, "dev")
    with pytest.raises(ValueError, match="count is 0"):
        evaluation_mixtures(corpus, count=0)
    soundfile.write(corpus / "test/100/1.flac", speech(4, 0, 16000), 16000)
    with pytest.raises(InputError, match="16000 Hz"):
        evaluation_mixtures(corpus, count=60)
    (corpus / "speakers.csv").write_text("name,sex\n100,F\n")
    with pytest.raises(InputError, match="no columns speaker_id and gender"):
        evaluation_mixtures(corpus)


def test_stereo_is_refused_when_it_is_read(corpus: Path) -> None:
    mixtures = evaluation_mixtures(corpus, count=1)
    path = corpus / mixtures.recipes[0].utterances[0]
    soundfile.write(path, np.zeros((9 * RATE, 2)), RATE)
    with pytest.raises(InputError, match="of 2 channels"):
        mixtures[0]


def test_measuring_averages_over_mixtures_and_pairings(corpus: Path) -> None:
    mixtures = evaluation_mixtures(corpus, count=6)
    answers = {item.mixture.tobytes(): item.sources for item in mixtures}

    def separate(mixture: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
        assert rate == RATE
        return (answers[mixture.tobytes()][::-1] + 0.1 * mixture).astype(np.float32)

    done = []
    measurement = measure(separate, mixtures, on_done=done.append)
    assert tuple(done) == measurement.rows
    assert {name: count for name, (count, _) in measurement.groups.items()} == {
        "FF": 2,
        "FM": 2,
        "MM": 2,
    }
    assert all(row.scores.permutation == (1, 0) for row in measurement.rows)
    values = [value or 0 for row in measurement.rows for value in row.scores.values["si_sdri"]]
    assert measurement.mean["si_sdri"] == pytest.approx(np.mean(values))
    means = [mean["si_sdri"] or 0 for _, mean in measurement.groups.values()]
    assert measurement.mean["si_sdri"] == pytest.approx(np.mean(means))
    for row in measurement.rows:
        mean, before = row.scores.mean, row.mixture_si_sdr
        assert mean["si_sdr"] is not None
        assert mean["si_sdri"] is not None
        assert before == pytest.approx(mean["si_sdr"] - mean["si_sdri"])
        assert before == pytest.approx(0, abs=1)


def test_the_mixture_is_named_where_a_separation_does_not_fit() -> None:
    item = Mixture(
        name="third", mixture=speech(1, 0), sources=np.stack([speech(1, 0)]), sample_rate=RATE
    )
    with pytest.raises(ValueError, match=r"third: estimates are \(1, 7999\)"):
        measure(lambda mixture, _: mixture[None, 1:], [item])
    with pytest.raises(ValueError, match="no mixture"):
        measure(lambda mixture, _: mixture[None], [])
