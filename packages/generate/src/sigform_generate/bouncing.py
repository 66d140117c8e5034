"""Clips of bouncing balls with the sound of every impact, drawn by a seed: no data is needed.

Each ball flies freely and bounces on the floor; the flight is solved exactly, so the times of the
impacts are known, and every impact sounds: what is heard is a function of what is seen. For
tests, for learning offline, and for measuring whether sound and picture belong together.

Letters of shapes: T frames, H height and W width (pixels), N samples of sound.
"""

import colorsys
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GRAVITY = 4.0
"""Picture heights per second squared: a fall from half the height takes half a second."""

FLOOR = 3 / 64
"""Thickness of the floor, in picture heights."""

RESTING = 0.25
"""Speed, in heights per second, under which a ball stays down and is silent."""

DECAY = 0.06
"""Seconds in which an impact's sound falls to 1/e."""

SLOTS = 2
"""Columns of the picture that balls are dropped in: at most one each, so that none meet."""


@dataclass(frozen=True)
class Impact:
    """A ball meets the floor: when (seconds), which ball, how fast (heights per second)."""

    time: float
    ball: int
    speed: float


@dataclass(frozen=True)
class BouncingClip:
    """frames (T, H, W, 3) uint8, audio (N,) float32 in [-1, 1], impacts in order of time."""

    frames: NDArray[np.uint8]
    audio: NDArray[np.float32]
    fps: float
    sample_rate: int
    impacts: tuple[Impact, ...]


@dataclass(frozen=True)
class _Ball:
    radius: float  # all in picture heights
    start: float  # x of the centre
    drift: float  # x per second
    pitch: float  # Hz
    colour: NDArray[np.float64]  # (3,) 0..255
    flights: tuple[tuple[float, float, float], ...]  # (time, height, upward speed) at each start


def bouncing_clip(
    seed: int,
    *,
    frames: int = 16,
    height: int = 64,
    width: int = 64,
    fps: float = 10.0,
    sample_rate: int = 16_000,
) -> BouncingClip:
    """The clip of a seed; frame k shows the instant k / fps, the sound lasts frames / fps seconds.

    Raises ValueError for a size, rate or length below 1, or pictures under 16 pixels.
    """
    balls, back = _drawn(seed, frames, height, width, fps)
    seconds = frames / fps
    if sample_rate < 1:
        raise ValueError(f"sample_rate is {sample_rate}; needs 1 or more")
    impacts = [
        Impact(time, number, GRAVITY * _fall(flight[1], flight[2]) - flight[2])
        for number, ball in enumerate(balls)
        for flight, (time, _, _) in zip(ball.flights, ball.flights[1:], strict=False)
        if time < seconds
    ]
    impacts.sort(key=lambda impact: impact.time)
    instants = np.arange(frames) / fps
    return BouncingClip(
        frames=_draw(balls, instants, back, height, width),
        audio=_sound(balls, impacts, round(seconds * sample_rate), sample_rate),
        fps=fps,
        sample_rate=sample_rate,
        impacts=tuple(impacts),
    )


def bouncing_still(
    seed: int,
    frame: int,
    *,
    frames: int = 16,
    height: int = 64,
    width: int = 64,
    fps: float = 10.0,
) -> NDArray[np.uint8]:
    """Frame `frame` of the same clip, (H, W, 3), without drawing the others."""
    balls, back = _drawn(seed, frames, height, width, fps)
    return _draw(balls, np.array([frame / fps]), back, height, width)[0]


def _drawn(
    seed: int, frames: int, height: int, width: int, fps: float
) -> tuple[list[_Ball], NDArray[np.float64]]:
    """The balls of a seed, and the colour of the wall behind them, 0..255."""
    for what, value, least in (
        ("frames", frames, 1),
        ("height", height, 16),
        ("width", width, 16),
        ("fps", fps, 1),
    ):
        if value < least:
            raise ValueError(f"{what} is {value}; needs {least} or more")
    random = np.random.default_rng(seed)
    back = random.uniform(0, 50, 3)
    return _drop(random, frames / fps, width / height), back


def _drop(random: np.random.Generator, seconds: float, aspect: float) -> list[_Ball]:
    """One or two balls, each in its own column, drifting without leaving it."""
    count = 1 + int(random.random() < 0.4)
    places = random.permutation(SLOTS)[:count] if count > 1 else np.array([0])
    breadth = aspect / count
    balls = []
    for place in places:
        radius = random.uniform(0.11, 0.17) * min(1.0, aspect)
        left, right = place * breadth + radius, (place + 1) * breadth - radius
        start, end = random.uniform(left, right, 2)
        hue = random.random()
        bounce = random.uniform(0.75, 0.92)  # speed after an impact to speed before
        top = random.uniform(0.3, 0.9) * (1 - FLOOR - 2 * radius)
        balls.append(
            _Ball(
                radius=radius,
                start=start,
                drift=(end - start) / seconds,
                pitch=9.0 / radius**2 * random.uniform(0.95, 1.05),
                colour=255 * np.array(colorsys.hsv_to_rgb(hue, random.uniform(0.3, 1.0), 1.0)),
                flights=_flights(top, random.uniform(-0.3, 0.6), bounce, seconds),
            )
        )
    return balls


def _flights(
    height: float, speed: float, bounce: float, seconds: float
) -> tuple[tuple[float, float, float], ...]:
    """The start of each free flight; all but the first begin with an impact."""
    time, flights = 0.0, [(0.0, height, speed)]
    while time < seconds:
        lasts = _fall(height, speed)
        arrival = GRAVITY * lasts - speed
        time, height, speed = time + lasts, 0.0, bounce * arrival
        if speed < RESTING:
            speed = 0.0
        flights.append((time, height, speed))
        if speed == 0.0:
            break
    return tuple(flights)


def _fall(height: float, speed: float) -> float:
    """Seconds until a ball this high with this upward speed is at the floor."""
    return (speed + (speed * speed + 2 * GRAVITY * height) ** 0.5) / GRAVITY


def _heights(ball: _Ball, instants: NDArray[np.float64]) -> NDArray[np.float64]:
    """Height of the ball's lowest point above the floor at each instant."""
    times, heights, speeds = (np.array(part) for part in zip(*ball.flights, strict=True))
    which = np.searchsorted(times, instants, side="right") - 1
    passed = instants - times[which]
    flown = heights[which] + speeds[which] * passed - GRAVITY / 2 * passed**2
    return np.maximum(flown, 0.0)


def _draw(
    balls: list[_Ball],
    instants: NDArray[np.float64],
    back: NDArray[np.float64],
    height: int,
    width: int,
) -> NDArray[np.uint8]:
    pixel = 1 / height
    rows = ((np.arange(height) + 0.5) * pixel)[None, :, None]  # (1, H, 1)
    columns = ((np.arange(width) + 0.5) * pixel)[None, None]  # (1, 1, W)
    frames = np.empty((len(instants), height, width, 3), np.float32)
    frames[:] = back
    floor = np.clip((rows[0, :, 0] - (1 - FLOOR)) / pixel + 0.5, 0, 1)[None, :, None, None]
    frames += np.float32(floor) * (np.float32(130) - frames)
    for ball in balls:
        y = 1 - FLOOR - ball.radius - _heights(ball, instants)
        x = ball.start + ball.drift * instants
        away = np.hypot(rows - y[:, None, None], columns - x[:, None, None])  # (T, H, W)
        cover = np.clip((ball.radius - away) / pixel + 0.5, 0, 1)[..., None]
        shade = np.clip(1.1 - 0.3 * away / ball.radius, 0, 1)[..., None]
        frames += np.float32(cover) * (np.float32(shade * ball.colour) - frames)
    return np.clip(np.rint(frames), 0, 255).astype(np.uint8)


def _sound(
    balls: list[_Ball], impacts: list[Impact], samples: int, sample_rate: int
) -> NDArray[np.float32]:
    """Each impact a struck bar: two damped partials, the lower the larger the ball."""
    audio = np.zeros(samples)
    for impact in impacts:
        first = round(impact.time * sample_rate)
        passed = np.arange(max(0, min(samples - first, round(8 * DECAY * sample_rate))))
        passed = passed / sample_rate
        turns = 2 * np.pi * balls[impact.ball].pitch * passed
        strength = min(1.0, impact.speed / 2.0) * np.minimum(passed / 0.002, 1.0)
        wave = np.sin(turns) * np.exp(-passed / DECAY)
        wave += 0.4 * np.sin(3.9 * turns) * np.exp(-3 * passed / DECAY)
        audio[first : first + len(passed)] += 0.7 * strength * wave
    return (0.95 * np.tanh(audio)).astype(np.float32)
