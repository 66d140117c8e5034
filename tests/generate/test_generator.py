"""The objects that a person uses from Python: by seed, whole, and nothing given is changed."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from generate.commands import FPS, FRAMES, RATE, SAMPLES, SAMPLING, SIZE, frames, saved, tiny

import sigform_generate
from sigform_generate.generator import AVGenerator, ImageGenerator, VideoGenerator, of_kind
from sigform_generate.given import Given
from sigform_generate.masks import Box
from sigform_generate.media import Clip
from sigform_generate.networks import Loaded
from sigform_generate.policy import Plain, StepContext


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return {kind: saved(folder, kind) for kind in ("image", "dit", "video", "av")}


@pytest.fixture(scope="module")
def images(files: dict[str, Path]) -> ImageGenerator:
    return ImageGenerator.load(str(files["image"]), device="cpu")


@pytest.fixture(scope="module")
def videos(files: dict[str, Path]) -> VideoGenerator:
    return VideoGenerator.load(str(files["video"]), device="cpu")


def test_images_are_pixels(images: ImageGenerator) -> None:
    made = images(2, seed=3)
    assert (made.shape, made.dtype) == ((2, SIZE, SIZE, 3), np.uint8)
    assert made.std() > 5


def test_sample_k_is_that_of_seed_plus_k(files: dict[str, Path]) -> None:
    for kind, name in (("image", "image"), ("image", "dit"), ("video", "video"), ("av", "av")):
        maker = of_kind(kind).load(str(files[name]), device="cpu")
        together = maker(3, seed=5)
        alone = maker(1, seed=7)
        if kind == "image":
            assert not np.array_equal(together[1], together[2])
            np.testing.assert_array_equal(together[2], alone[0])
            continue
        assert not np.array_equal(together[1].frames, together[2].frames)
        np.testing.assert_array_equal(together[2].frames, alone[0].frames)
        if kind == "av":
            np.testing.assert_array_equal(together[2].audio, alone[0].audio)


@pytest.mark.parametrize("size", [2, 3])
def test_batches_change_nothing_but_rounding(videos: VideoGenerator, size: int) -> None:
    alone, together = videos(3, seed=1), videos(3, seed=1, batch_size=size)
    for one, other in zip(alone, together, strict=True):
        away = np.abs(one.frames.astype(int) - other.frames.astype(int))
        assert away.max() <= 1


def test_truncation_moves_towards_the_mean(images: ImageGenerator) -> None:
    whole = images(8, seed=0).astype(float)
    less = images(8, seed=0, truncation=0.5).astype(float)
    none = images(8, seed=0, truncation=0.0)
    assert less.std(axis=0).mean() < 0.8 * whole.std(axis=0).mean()
    assert (none == none[0]).all()


def test_a_walk_begins_at_its_images(images: ImageGenerator) -> None:
    way = list(images.walk([0, 1], 4))
    assert len(way) == 8
    np.testing.assert_array_equal(way[0], images(1, seed=0)[0])
    np.testing.assert_array_equal(way[4], images(1, seed=1)[0])


def test_a_dit_takes_a_class_and_guidance(files: dict[str, Path]) -> None:
    maker = ImageGenerator.load(str(files["dit"]), device="cpu")
    plain = maker(1)
    assert not np.array_equal(plain, maker(1, label=1))
    assert not np.array_equal(maker(1, label=1), maker(1, label=1, guidance=3.0))
    with pytest.raises(ValueError, match="label is 3; this DiT has 0 to 2"):
        maker(1, label=3)
    with pytest.raises(ValueError, match=r"guidance is 2\.0 without a label"):
        maker(1, guidance=2.0)
    with pytest.raises(ValueError, match="a DiT takes no truncation"):
        maker(1, truncation=0.5)
    with pytest.raises(ValueError, match="needs a StyleSwin to walk through"):
        next(maker.walk([0], 2))


def test_a_styleswin_takes_neither(images: ImageGenerator) -> None:
    with pytest.raises(ValueError, match="takes no steps, label or guidance; needs a DiT"):
        images(1, steps="ddim4")


def test_clips_have_the_length_of_the_training(videos: VideoGenerator) -> None:
    (made,) = videos()
    assert made.frames.shape == (FRAMES, SIZE, SIZE, 3)
    assert made.fps == FPS
    assert made.audio is None


def test_what_is_given_stays(videos: VideoGenerator) -> None:
    clip = Clip(frames=frames(FRAMES, SIZE, SIZE), fps=Fraction(FPS))
    half = FRAMES // 2
    np.testing.assert_array_equal(videos.predict(clip)[0].frames[:half], clip.frames[half:])
    np.testing.assert_array_equal(videos.backward(clip)[0].frames[half:], clip.frames[:half])
    between = videos.interpolate(clip)[0].frames
    np.testing.assert_array_equal(between[::4], clip.frames[::4])
    assert not np.array_equal(between, clip.frames)
    np.testing.assert_array_equal(videos.animate(clip.frames[0])[0].frames[0], clip.frames[0])
    filled = videos.complete(clip, Box(4, 4, 6, 6))[0].frames
    inside = np.zeros((SIZE, SIZE), bool)
    inside[4:10, 4:10] = True
    np.testing.assert_array_equal(filled[:, ~inside], clip.frames[:, ~inside])
    assert not np.array_equal(filled[:, inside], clip.frames[:, inside])


def test_what_is_made_goes_by_what_is_given(videos: VideoGenerator) -> None:
    one = Clip(frames=frames(FRAMES, SIZE, SIZE, seed=1), fps=Fraction(FPS))
    other = Clip(frames=frames(FRAMES, SIZE, SIZE, seed=2), fps=Fraction(FPS))
    half = FRAMES // 2
    made = [videos.predict(clip)[0].frames[half:] for clip in (one, other)]
    assert not np.array_equal(*made)


@pytest.mark.parametrize(("missing", "said"), [(0, "keeps everything"), (1, "keeps nothing")])
def test_a_mask_of_all_or_nothing_is_refused(
    videos: VideoGenerator, missing: int, said: str
) -> None:
    shape = (FRAMES, SIZE, SIZE)
    given = Given(frames=np.zeros((*shape, 3), np.uint8), missing=np.full(shape, bool(missing)))
    with pytest.raises(ValueError, match=said):
        videos.fill(given)


def test_sound_lasts_as_long_as_the_pictures(files: dict[str, Path]) -> None:
    (made,) = AVGenerator.load(str(files["av"]), device="cpu")()
    assert made.frames.shape == (FRAMES, SIZE, SIZE, 3)
    assert made.audio is not None
    assert made.audio.shape == (1, SAMPLES)
    assert made.audio.dtype == np.float32
    assert np.abs(made.audio).max() <= 1
    assert made.sample_rate == RATE


def test_the_policy_is_asked_for_every_block_of_every_step(videos: VideoGenerator) -> None:
    class Counting(Plain):
        steps = 0
        blocks = 0

        def begin(self, context: StepContext) -> None:
            super().begin(context)
            self.steps += 1

        def run(self, index, block, tokens, condition):
            self.blocks += 1
            return super().run(index, block, tokens, condition)

    policy = Counting()
    counted = videos(2, seed=0, policy=policy)
    assert (policy.steps, policy.blocks) == (8, 8)  # 2 clips of 4 steps through 1 block
    plain = videos(2, seed=0)
    np.testing.assert_array_equal(counted[1].frames, plain[1].frames)


def test_steps_are_counted_over_all_batches(videos: VideoGenerator) -> None:
    told: list[tuple[int, int]] = []
    videos(3, steps="ddim2", on_step=lambda done, total: told.append((done, total)))
    assert told == [(number, 6) for number in range(1, 7)]


def test_bfloat16_differs_little(files: dict[str, Path]) -> None:
    whole = ImageGenerator.load(str(files["image"]), device="cpu")(2)
    half = ImageGenerator.load(str(files["image"]), device="cpu", dtype="bfloat16")(2)
    away = np.abs(whole.astype(int) - half.astype(int))
    assert 0 < away.mean() < 4


def test_weights_for_something_else_are_named(files: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"is for vdt, which makes video; needs .*image"):
        ImageGenerator.load(str(files["video"]))
    with pytest.raises(ValueError, match="n is 0; needs 1 or more"):
        VideoGenerator.load(str(files["video"]), device="cpu")(0)
    unknown = Loaded(network=tiny("video"), model="vdt", sampling=None, card={})
    with pytest.raises(ValueError, match="does not say what it was trained for"):
        VideoGenerator(unknown, device="cpu", name="a.safetensors")()


def test_cuda_that_is_not_there_is_named(files: dict[str, Path]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(ValueError, match="device is 'cuda', which this machine lacks"):
        ImageGenerator.load(str(files["image"]), device="cuda")


def test_the_package_gives_its_names_late() -> None:
    for name in sigform_generate.__all__:
        assert getattr(sigform_generate, name).__name__ == name
    assert sigform_generate.Sampling(size=8).frames == 1
    assert SAMPLING.frames == FRAMES
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        sigform_generate.Nothing  # noqa: B018
