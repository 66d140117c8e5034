"""Scores of files: what is read, what is refused, and the tables that are written."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from sigform_kit import InputError, InputsFailedError, UsageError
from sigform_speech.evaluation import (
    as_json,
    evaluate_corpus,
    evaluate_estimates,
    evaluate_files,
    evaluate_folder,
    find_files,
    table,
    write_scores,
)
from sigform_speech.protocol import Measurement

RATE = 8000
Samples = NDArray[np.float32]


def unseparated(mixture: Samples, _: int) -> Samples:
    """No separation: each speaker is taken for the mixture."""
    return np.stack([mixture, mixture])


def voices(seed: int = 0, samples: int = RATE) -> Samples:
    noise = np.random.default_rng(seed).standard_normal((2, samples))
    return (0.1 * noise).astype(np.float32)


def write(path: Path, signal: Samples, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, signal.T, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


def write_bundle(folder: Path, seed: int = 0) -> tuple[Path, list[Path]]:
    sources = voices(seed)
    mixture = write(folder / "mix.wav", sources.sum(0))
    return mixture, [write(folder / f"s{n + 1}.wav", sources[n]) for n in (0, 1)]


def column(result: Measurement, name: str) -> list[float | None]:
    return [line[name] for line in table(result)]


def test_a_file_is_separated_and_compared(tmp_path: Path) -> None:
    mixture, references = write_bundle(tmp_path)
    result = evaluate_files(unseparated, mixture, references)
    (row,) = result.rows
    assert row.name == str(mixture)
    assert row.seconds == 1
    assert row.scores.values["si_sdri"] == pytest.approx((0, 0), abs=1e-6)
    assert row.mixture_si_sdr == pytest.approx(0, abs=0.5)


@pytest.mark.parametrize("with_mixture", [True, False])
def test_given_estimates_are_compared_without_a_model(tmp_path: Path, with_mixture: bool) -> None:
    mixture, references = write_bundle(tmp_path)
    sources = voices()
    noisy = [source + 0.01 * voices(9)[0] for source in sources]
    estimates = [write(tmp_path / f"{n}.wav", signal) for n, signal in enumerate(noisy[::-1])]
    result = evaluate_estimates(estimates, references, mixture if with_mixture else None)
    (row,) = result.rows
    assert row.scores.permutation == (1, 0)
    assert row.scores.values["si_sdr"] == pytest.approx((40, 40), abs=1)
    assert row.scores.values["si_sdri"] == pytest.approx((40, 40), abs=1)
    with pytest.raises(UsageError, match="1 estimates and 2 references"):
        evaluate_estimates(estimates[:1], references)


def test_channels_are_averaged(tmp_path: Path) -> None:
    mixture, references = write_bundle(tmp_path)
    sources = voices()
    write(mixture, np.stack([2 * sources[0], 2 * sources[1]]))
    result = evaluate_files(lambda x, _: np.stack([x, x]), mixture, references)
    assert result.rows[0].scores.values["si_sdri"] == pytest.approx((0, 0), abs=1e-4)
    assert result.rows[0].mixture_si_sdr == pytest.approx(0, abs=0.5)


def test_lengths_and_rates_that_differ_are_named(tmp_path: Path) -> None:
    mixture, references = write_bundle(tmp_path)
    write(references[1], voices()[1, :7000])
    with pytest.raises(InputError, match=r"s2\.wav has 7000 samples and .*mix\.wav 8000; --cut"):
        evaluate_files(unseparated, mixture, references)
    result = evaluate_files(unseparated, mixture, references, cut=True)
    assert result.rows[0].seconds == pytest.approx(7000 / RATE)
    write(references[1], voices()[1], 16000)
    with pytest.raises(InputError, match=r"s2\.wav has 16000 Hz and .*mix\.wav 8000 Hz"):
        evaluate_files(unseparated, mixture, references)
    with pytest.raises(UsageError, match="no references"):
        evaluate_files(unseparated, mixture, [])
    with pytest.raises(InputError, match="missing"):
        evaluate_files(unseparated, tmp_path / "missing.wav", references)


def test_both_layouts_of_folders_are_found(tmp_path: Path) -> None:
    for seed, name in enumerate(("one", "two")):
        write_bundle(tmp_path / "bundles" / name, seed)
        for part in ("mix_clean", "s1", "s2"):
            signal = voices(seed).sum(0) if part == "mix_clean" else voices(seed)[int(part[1]) - 1]
            write(tmp_path / "librimix" / part / f"{name}.flac", signal)
    (tmp_path / "bundles" / "notes.txt").write_text("not a mixture")
    assert [files.name for files in find_files(tmp_path / "librimix")] == ["one", "two"]
    for layout in ("bundles", "librimix"):
        result = evaluate_folder(unseparated, tmp_path / layout)
        assert [row.name for row in result.rows] == ["one", "two"]
        assert column(result, "si_sdri") == pytest.approx([0, 0, 0], abs=1e-6)
    assert [files.name for files in find_files(tmp_path / "bundles/one")] == ["one"]


def test_folders_without_mixtures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no mixtures"):
        find_files(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        find_files(tmp_path / "nowhere")
    write(tmp_path / "one/mix.wav", voices()[0])
    with pytest.raises(InputError, match=r"mix\.wav has no reference s1"):
        find_files(tmp_path)


def test_a_broken_file_does_not_stop_the_others(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_bundle(tmp_path / name)
    (tmp_path / "b" / "s2.wav").write_bytes(b"RIFF, or so it says")
    done = []
    result = evaluate_folder(unseparated, tmp_path, on_done=done.append)
    assert done == ["a", "b", "c"]
    assert [row.name for row in result.rows] == ["a", "c"]
    ((name, why),) = result.failures
    assert name == "b"
    assert "s2.wav" in why
    assert as_json(result)["failures"] == [{"mixture": "b", "error": why}]
    for name in ("a", "c"):
        (tmp_path / name / "mix.wav").write_bytes(b"neither")
    with pytest.raises(InputsFailedError, match="3 of 3"):
        evaluate_folder(unseparated, tmp_path)


def test_the_corpus_has_rows_for_each_pairing(tmp_path: Path) -> None:
    for number, reader in enumerate(("1", "2", "3", "4")):
        write(tmp_path / "valid" / reader / "a.flac", voices(number, 4 * RATE)[0])
    (tmp_path / "speakers.csv").write_text("speaker_id,gender\n1,F\n2,F\n3,M\n4,M\n")
    done = []
    result = evaluate_corpus(unseparated, tmp_path, split="valid", count=5, on_done=done.append)
    assert len(done) == 5
    lines = table(result)
    assert [(line["mixture"], line["pairing"]) for line in lines[5:]] == [
        ("mean", "FF"),
        ("mean", "FM"),
        ("mean", "MM"),
        ("mean", ""),
    ]
    assert as_json(result)["pairings"]["FM"]["mixtures"] == 2


def test_tables_are_written_whole_and_not_over_others(tmp_path: Path) -> None:
    mixture, references = write_bundle(tmp_path)
    write(references[1], np.zeros(RATE, np.float32))
    result = evaluate_files(unseparated, mixture, references)
    sheet, document = tmp_path / "out/scores.csv", tmp_path / "scores.json"
    write_scores(result, sheet)
    write_scores(result, document)
    with sheet.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["mixture"] for line in lines] == [str(mixture), "mean"]
    assert lines[0]["permutation"] == "1 2"
    assert "reference is silent" in lines[0]["notes"]
    content = json.loads(document.read_text())
    assert content["mixtures"][0]["speakers"][1]["si_sdr"] is None
    assert float(lines[0]["si_sdr"]) == content["mixtures"][0]["speakers"][0]["si_sdr"]
    assert "NaN" not in document.read_text()
    with pytest.raises(InputError, match="exists"):
        write_scores(result, sheet)
    write_scores(result, sheet, "overwrite")
    with pytest.raises(UsageError, match=r"needs \.csv or \.json"):
        write_scores(result, tmp_path / "scores.txt")
    assert not list(tmp_path.rglob(".sigform-*"))


def test_the_example_is_the_sum_of_its_two_voices() -> None:
    folder = Path(__file__).resolve().parents[2] / "examples"
    references = [folder / f"two_voices_speaker{number}.flac" for number in (1, 2)]
    signals = [soundfile.read(path, dtype="int16")[0] for path in references]
    mixture, rate = soundfile.read(folder / "two_voices.flac", dtype="int16")
    assert rate == RATE
    assert np.array_equal(mixture, signals[0] + signals[1])
    result = evaluate_files(unseparated, folder / "two_voices.flac", references)
    assert result.rows[0].mixture_si_sdr == pytest.approx(0, abs=1)
