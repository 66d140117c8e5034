"""Whether sound belongs to picture: the lag between impacts that are seen and that are heard.

An impact is seen where a thing before an even ground stops falling and rises, between two
frames if need be, and heard where the spectrum suddenly grows. This means something for bouncing
things; the same pictures with the sounds of other clips say how much of it is chance.

Letters of shapes: T frames, H, W pixels, N samples, F windows of the spectrogram.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from sigform_generate.sound import MelSettings, log_mel

LEAST_CONTRAST = 24
"""Levels of 255 by which a thing must differ from the ground."""

LEAST_AREA = 0.003
"""Of the picture: smaller spots are noise."""

LEAST_MOVE = 0.03
"""Picture heights that a thing must fall before an impact and rise after it."""

FARTHEST = 0.4
"""Picture heights that a thing can move between two frames."""

QUIET = 1e-2
"""Mel magnitude added before the logarithm, so that noise far below the impacts has no onsets."""

LEAST_ONSET = 0.35
"""Mean growth of the logarithm over all bands in `RISE` windows that counts as an onset."""

RISE = 3
"""Windows of 10 ms over which growth is measured."""

APART = 8
"""Windows of 10 ms in which a second onset counts as part of the first."""


@dataclass(frozen=True, kw_only=True)
class Synchrony:
    """Impacts seen in clips, and how far the nearest onset heard is from each.

    `chance` is `within` when every clip has the sound of another.
    """

    clips: int
    seen: int  # impacts
    heard: int  # onsets
    within: float  # share of impacts seen whose nearest onset is at most `tolerance` away
    heard_within: float  # share of onsets, away from the ends, that have such an impact
    chance: float
    lag: (
        float  # seconds, median over impacts with an onset within 3 tolerances; sound after picture
    )
    tolerance: float  # seconds: one frame

    def line(self) -> str:
        """What was found, in a sentence."""
        return (
            f"{self.within:.0%} of {self.seen} impacts seen in {self.clips} clips are heard within "
            f"{1000 * self.tolerance:.0f} ms (with other clips' sound {self.chance:.0%}), "
            f"median lag {1000 * self.lag:+.0f} ms"
        )


def synchrony(
    frames: Sequence[NDArray[np.uint8]],
    sounds: Sequence[NDArray[np.float32]],
    *,
    fps: float,
    sample_rate: int,
) -> Synchrony:
    """Measure clips (T, H, W, 3) with their sounds (N,) in [-1, 1].

    The tolerance is one frame. Raises ValueError where clips and sounds do not pair up or no
    impact is seen at all.
    """
    if len(frames) != len(sounds) or not frames:
        raise ValueError(f"{len(frames)} clips and {len(sounds)} sounds; needs as many of both")
    seen = [seen_impacts(clip, fps) for clip in frames]
    heard = [heard_onsets(sound, sample_rate) for sound in sounds]
    count = sum(len(times) for times in seen)
    if not count:
        raise ValueError(f"no impact is seen in {len(frames)} clips; needs things that bounce")
    tolerance = 1 / fps
    lags = np.concatenate([_nearest(a, b) for a, b in zip(seen, heard, strict=True)])
    # Every clip with every other's sound, up to a number: the mean is what chance gives.
    turns = range(1, min(len(frames), 9))
    others = [
        _nearest(a, b) for turn in turns for a, b in zip(seen, _moved_on(heard, turn), strict=True)
    ]
    strays = np.concatenate(others) if others else np.array([np.nan])
    back = []
    for clip, times, onsets in zip(frames, seen, heard, strict=True):
        # Without frames before and after, an impact cannot be seen.
        inner = onsets[(onsets > tolerance) & (onsets < (len(clip) - 2.5) / fps)]
        back.append(_nearest(inner, times))
    reverse = np.concatenate(back)
    near = lags[np.abs(lags) <= 3 * tolerance]
    return Synchrony(
        clips=len(frames),
        seen=count,
        heard=sum(len(times) for times in heard),
        within=_share(lags, tolerance),
        heard_within=_share(reverse, tolerance),
        chance=_share(strays, tolerance),
        lag=float(np.median(near)) if len(near) else float("nan"),
        tolerance=tolerance,
    )


def _moved_on(items: list[NDArray[np.float64]], turn: int) -> list[NDArray[np.float64]]:
    """The list, each item moved on by `turn` places."""
    return items[turn:] + items[:turn]


def _nearest(times: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each time, how much later the nearest of the others is; infinity where there is none."""
    if not len(others):
        return np.full(len(times), np.inf)
    away = others[None] - times[:, None]
    return away[np.arange(len(times)), np.abs(away).argmin(1)] if len(times) else np.empty(0)


def _share(lags: NDArray[np.float64], tolerance: float) -> float:
    return float(np.mean(np.abs(lags) <= tolerance)) if len(lags) else float("nan")


# --- heard ---------------------------------------------------------------------------------------


def heard_onsets(sound: NDArray[np.float32], sample_rate: int) -> NDArray[np.float64]:
    """Times in seconds at which the sound (N,) suddenly grows."""
    window = 2 * round(0.016 * sample_rate)  # 32 ms, half of what the models hear through
    hop = 2 * round(0.005 * sample_rate)
    settings = MelSettings(
        sample_rate=sample_rate,
        window=window,
        hop=hop,
        bands=24,
        highest=min(8000.0, sample_rate / 2),
    )
    bands = log_mel(torch.from_numpy(np.ascontiguousarray(sound))[None].float(), settings)[0]
    levels = (bands.exp() + QUIET).log().numpy()  # (F, 24)
    before = np.concatenate([np.full((RISE, levels.shape[1]), np.log(QUIET)), levels[:-RISE]])
    growth = np.maximum(levels - before, 0).mean(1)
    onsets: list[int] = []
    for place in np.argsort(-growth, kind="stable"):
        if growth[place] < LEAST_ONSET:
            break
        if all(abs(place - other) > APART for other in onsets):
            onsets.append(int(place))
    # Growth is largest when the rise lies in the middle of its span.
    places = np.sort(np.array(onsets, dtype=np.float64)) - RISE / 2
    return np.maximum((places + 0.5) * hop / sample_rate, 0.0)


# --- seen ----------------------------------------------------------------------------------------


def seen_impacts(frames: NDArray[np.uint8], fps: float) -> NDArray[np.float64]:
    """Times in seconds at which things in a clip (T, H, W, 3) stop falling and rise."""
    impacts = [
        time / fps
        for start, heights in _tracks(frames)
        for time in start + _turns(np.array(heights) / frames.shape[1])
    ]
    return np.sort(np.array(impacts, dtype=np.float64))


def _turns(down: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where a track (n,), growing downwards, turns from falling to rising, in frames.

    The turn is where the straight lines through the two places before and after it meet.
    """
    found = []
    last = len(down) - 1
    for k in range(1, last):
        # A plateau of two equal frames is one turn.
        if not (down[k] > down[k - 1] and down[k] >= down[k + 1]):
            continue
        fall = down[k] - down[max(0, k - 2) : k].min()
        rise = down[k] - down[k + 1 : k + 3].min()
        if min(fall, rise) < LEAST_MOVE:
            continue
        time = float(k)
        if k >= 2 and k + 2 <= last:
            falling, rising = down[k - 1] - down[k - 2], down[k + 2] - down[k + 1]
            if falling > rising:
                ahead = down[k + 1] - rising * (k + 1) - down[k - 1] + falling * (k - 1)
                time = float(np.clip(ahead / (falling - rising), k - 1, k + 1))
        found.append(time)
    return np.array(found)


def _tracks(frames: NDArray[np.uint8]) -> list[tuple[int, list[float]]]:
    """Things followed from frame to frame: the first frame, and the row of the middle in each."""
    height = frames.shape[1]
    open_tracks: list[tuple[int, list[tuple[float, float]]]] = []
    closed: list[tuple[int, list[tuple[float, float]]]] = []
    for number, places in enumerate(_things(frames)):
        free = list(places)
        going: list[tuple[int, list[tuple[float, float]]]] = []
        # The nearest pairs of all first.
        pairs = sorted(
            (float(np.hypot(*np.subtract(_expected(track), place))), t, p)
            for t, (_, track) in enumerate(open_tracks)
            for p, place in enumerate(places)
        )
        taken_tracks: set[int] = set()
        taken_places: set[int] = set()
        for away, t, p in pairs:
            if away > FARTHEST * height or t in taken_tracks or p in taken_places:
                continue
            taken_tracks.add(t)
            taken_places.add(p)
            open_tracks[t][1].append(places[p])
            going.append(open_tracks[t])
        closed += [track for t, track in enumerate(open_tracks) if t not in taken_tracks]
        free = [place for p, place in enumerate(places) if p not in taken_places]
        open_tracks = going + [(number, [place]) for place in free]
    closed += open_tracks
    return [(start, [row for row, _ in track]) for start, track in closed if len(track) >= 3]


def _expected(track: list[tuple[float, float]]) -> tuple[float, float]:
    """Where a thing is looked for: the row where it was, the column moved on as before."""
    row, column = track[-1]
    drift = column - track[-2][1] if len(track) > 1 else 0.0
    return row, column + drift


def _things(frames: NDArray[np.uint8]) -> list[list[tuple[float, float]]]:
    """For each frame the middles (row, column) of what stands out from the ground."""
    levels = frames.astype(np.int16)
    # By rows: a thing that hangs in the air for half the clip must not become ground.
    ground = np.median(levels, axis=(0, 2))[None, :, None]  # (1, H, 1, 3)
    apart = np.abs(levels - ground).max(axis=-1)  # (T, H, W)
    mask = apart > max(LEAST_CONTRAST, 0.35 * float(apart.max()))
    labels = _connected(mask)
    least = LEAST_AREA * mask.shape[1] * mask.shape[2]
    found = []
    for labelled in labels:
        places = []
        for label in np.unique(labelled[labelled > 0]):
            rows, columns = np.nonzero(labelled == label)
            if len(rows) >= least:
                places.append((float(rows.mean()), float(columns.mean())))
        found.append(places)
    return found


def _connected(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """A number for each connected part of each frame of a mask (T, H, W); 0 outside."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        padded = np.pad(labels, ((0, 0), (1, 1), (1, 1)))
        beside = np.maximum.reduce(
            [
                labels,
                padded[:, :-2, 1:-1],
                padded[:, 2:, 1:-1],
                padded[:, 1:-1, :-2],
                padded[:, 1:-1, 2:],
            ]
        )
        spread = np.where(mask, beside, 0)
        if np.array_equal(spread, labels):
            return labels
        labels = spread
