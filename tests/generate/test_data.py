"""Folders of images, clips and clips with sound become items by number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sigform_generate.data import (
    AVSet,
    ClipSet,
    ImageSet,
    Source,
    find_clips,
    find_images,
    held_out,
    to_pixels,
    to_tensor,
)
from sigform_generate.media import write_clip
from sigform_kit.errors import InputError

RATE = 16000


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six pictures of different sizes in two folders, with other files between."""
    random = np.random.default_rng(0)
    for number in range(6):
        folder = tmp_path / "images" / str(number % 2)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "images" / "notes.txt").write_text("six pictures")
    (tmp_path / "images" / ".hidden.png").write_text("left alone")
    return tmp_path / "images"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three clips of 6 frames in which frame and second of sound tell their number."""
    frames = np.empty((3, 6, 8, 8, 3), np.uint8)
    frames[:] = (10 * np.arange(18)).reshape(3, 6, 1, 1, 1)
    frames[..., :4, :] += 5  # left and right differ
    audio = np.repeat(100 + np.arange(18).reshape(3, 6), RATE // 10, axis=1).astype(np.int16)
    path = tmp_path / "clips.npz"
    np.savez(path, frames=frames, fps=10, audio=audio, sample_rate=RATE)
    return path


def test_values_and_pixels_are_each_others_inverse() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3), dtype=np.uint8)
    values = to_tensor(pixels)
    assert values.shape == (2, 3, 4, 5)
    assert values.dtype == torch.float32
    assert float(values.min()) >= -1
    assert float(values.max()) <= 1
    np.testing.assert_array_equal(to_pixels(values), pixels)


def test_images_are_found_and_other_files_named(images: Path) -> None:
    found, notes = find_images(images)
    assert [path.name for path in found] == ["0.png", "2.png", "4.png", "1.png", "3.png", "5.png"]
    assert notes == [f"skipped {images / 'notes.txt'}: not of a kind of image"]


def test_images_are_items_by_number(images: Path) -> None:
    plain = ImageSet(find_images(images)[0], 16)
    assert len(plain) == 6
    assert plain[3].shape == (3, 16, 16)
    flipped = ImageSet(find_images(images)[0], 16, flip=True, seed=4)
    seen = set()
    for index in range(40):
        item, original = flipped[index], plain[index % 6]
        mirrored = not torch.equal(item, original)
        seen.add(mirrored)
        assert torch.equal(item, original.flip(-1) if mirrored else original)
        assert torch.equal(item, flipped[index])
    assert seen == {True, False}


def test_a_broken_image_is_left_out_and_named(images: Path) -> None:
    (images / "0" / "0.png").write_bytes(b"broken")
    made = ImageSet(find_images(images)[0], 16)
    assert len(made) == 5
    assert len(made.notes) == 1
    assert "0.png: not an image" in made.notes[0]


def test_too_few_images_are_refused(images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 6 usable images; needs at least 7"):
        ImageSet(find_images(images)[0], 16, least=7)
    (tmp_path / "empty").mkdir()
    for folder, why in ((tmp_path / "empty", "has no images"), (tmp_path / "no", "no such folder")):
        with pytest.raises(InputError, match=why):
            find_images(folder)


def test_kept_pixels_are_taken_from_the_cache(images: Path, tmp_path: Path) -> None:
    files = find_images(images)[0]
    first = ImageSet(files, 16, cache=tmp_path / "cache")
    stored = sorted((tmp_path / "cache").glob("*.npy"))
    assert len(stored) == 6
    for path in stored:
        np.save(path, np.zeros_like(np.load(path)))
    assert not to_pixels(ImageSet(files, 16, cache=tmp_path / "cache")[0]).any()
    other = ImageSet(files, 12, cache=tmp_path / "cache")
    assert other[0].shape != first[0].shape


def test_a_share_is_held_out_by_the_seed() -> None:
    items = list(range(50))
    train, held = held_out(items, 3)
    assert sorted(train + held) == items
    assert len(held) == 5
    assert held_out(items, 3) == (train, held)
    assert held_out(items, 4) != (train, held)
    assert [len(part) for part in held_out(items[:2], 0)] == [1, 1]
    with pytest.raises(InputError, match="needs at least 2"):
        held_out(items[:1], 0)


def test_clips_of_archives_and_films_are_found(archive: Path) -> None:
    film = archive.parent / "a.mp4"
    write_clip(film, np.zeros((4, 16, 16, 3), np.uint8), 10)
    (archive.parent / "notes.txt").write_text("clips")
    sources, notes = find_clips(archive.parent)
    assert sources == [Source(film), *(Source(archive, index) for index in range(3))]
    assert len(notes) == 1
    assert find_clips(archive)[0] == sources[1:]


def test_without_augmentation_items_are_middle_windows(archive: Path) -> None:
    made = ClipSet(find_clips(archive)[0], 4, 8, 10)
    assert len(made) == 3
    assert made[1].shape == (4, 3, 8, 8)
    assert to_pixels(made[1])[:, 0, -1, 0].tolist() == [70, 80, 90, 100]


def test_augmented_windows_are_a_function_of_the_number(archive: Path) -> None:
    made = ClipSet(find_clips(archive)[0], 4, 8, 10, augment=True, seed=1)
    windows = {made.window(index) for index in range(200)}
    assert windows == {(n, first, flip) for n in range(3) for first in range(3) for flip in (0, 1)}
    for index in range(10):
        number, first, mirrored = made.window(index)
        item = to_pixels(made[index])
        assert item[0, 0, 4, 0] == 60 * number + 10 * first + 5 * mirrored
        assert torch.equal(made[index], made[index])


def test_clips_too_short_or_broken_are_left_out_and_named(archive: Path) -> None:
    short, broken = archive.parent / "short.gif", archive.parent / "broken.mp4"
    write_clip(short, np.zeros((3, 16, 16, 3), np.uint8), 10)
    broken.write_text("no film")
    made = ClipSet(find_clips(archive.parent)[0], 4, 8, 10)
    assert len(made) == 3
    assert made.notes == [
        f"skipped {broken}: not a video that can be read",
        f"skipped {short}: has 3 frames at 10 fps; needs 4, 0.40 s",
    ]
    with pytest.raises(InputError, match="has 0 usable clips; needs at least 1"):
        ClipSet([Source(short)], 4, 8, 10)


def test_sound_belongs_to_its_frames(archive: Path) -> None:
    made = AVSet(find_clips(archive)[0], 4, 8, 10, augment=True)
    for index in range(20):
        frames, sound = made[index]
        assert sound.shape == (6400,)
        number, first, _ = made.clips.window(index)
        wanted = np.repeat(100 + 6 * number + first + np.arange(4), RATE // 10)
        np.testing.assert_allclose(sound.numpy() * 32768, wanted, atol=0.01)
        assert frames.shape == (4, 3, 8, 8)


def test_silent_and_soundless_clips_are_left_out_and_named(archive: Path) -> None:
    frames = np.zeros((5, 16, 16, 3), np.uint8)
    mute, silent = archive.parent / "mute.mp4", archive.parent / "silent.mp4"
    write_clip(mute, frames, 10)
    write_clip(silent, frames, 10, audio=np.zeros(8000, np.float32), sample_rate=RATE)
    made = AVSet(find_clips(archive.parent)[0], 4, 8, 10)
    assert len(made) == 3
    assert made.notes == [
        f"skipped {mute}: has no sound",
        f"skipped {silent}: its sound is silent",
    ]
    with pytest.raises(InputError, match="has 0 usable clips with sound; needs at least 1"):
        AVSet([Source(mute), Source(silent)], 4, 8, 10)


def test_archives_of_another_kind_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", pictures=np.zeros(3))
    np.savez(tmp_path / "b.npz", frames=np.zeros((2, 3)), fps=10)
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04 broken")
    for name in ("a.npz", "b.npz", "c.npz"):
        with pytest.raises(InputError, match=name) as caught:
            find_clips(tmp_path / name)
        assert "\n" not in str(caught.value)
