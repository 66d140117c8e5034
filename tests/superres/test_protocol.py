"""The papers' evaluation against the published numbers of bicubic."""

import json
import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sigform_kit.errors import InputError
from sigform_superres.protocol import (
    Evaluation,
    Perceptual,
    Protocol,
    degrade,
    evaluate,
    evaluate_pairs,
    pair_paths,
    srcnn_bicubic,
)
from sigform_superres.resizing import imresize

# (test set, protocol, scale) -> mean PSNR of bicubic, mean SSIM where it is known
BICUBIC: dict[tuple[str, Protocol, int], tuple[float, float | None]] = {
    ("set5", "rgb", 2): (33.682, 0.9305),
    ("set5", "rgb", 3): (30.405, 0.8690),
    ("set5", "rgb", 4): (28.431, 0.8113),
    ("set5", "srcnn", 2): (33.661, 0.9299),
    ("set5", "srcnn", 3): (30.392, 0.8682),
    ("set5", "srcnn", 4): (28.421, 0.8104),
    ("set14", "rgb", 2): (30.330, None),
    ("set14", "rgb", 3): (27.634, None),
    ("set14", "rgb", 4): (26.092, None),
}


def read_set(name: str) -> list[tuple[str, np.ndarray]]:
    folder = os.environ.get("SIGFORM_FIXTURES")
    if not folder:
        pytest.skip(f"SIGFORM_FIXTURES is not set; needs the folder with data/superres/{name}")
    paths = sorted((Path(folder) / "data" / "superres" / name).glob("*.png"))
    return [(path.stem, np.array(Image.open(path))) for path in paths]


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def doubled(lr: np.ndarray) -> np.ndarray:
    """Nearest neighbour, x2."""
    return lr.repeat(2, axis=0).repeat(2, axis=1)


@pytest.mark.parametrize(("name", "protocol", "scale"), BICUBIC)
def test_bicubic_has_the_published_scores(name: str, protocol: Protocol, scale: int) -> None:
    images = read_set(name)
    result = evaluate(lambda lr: imresize(lr, scale), images, scale, protocol=protocol)
    psnr, ssim = BICUBIC[name, protocol, scale]
    assert len(result.rows) == {"set5": 5, "set14": 14}[name]
    assert result.mean.bicubic.psnr == pytest.approx(psnr, abs=0.001)
    if ssim is not None:
        assert result.mean.bicubic.ssim == pytest.approx(ssim, abs=1e-4)
    if protocol == "rgb":
        assert result.mean.network == result.mean.bicubic


def test_a_test_picture_is_cropped_to_a_multiple() -> None:
    image = noise(50, 47, 3)
    hr, lr = degrade(image, 3)
    assert np.array_equal(hr, image[:48, :45])
    assert np.array_equal(lr, imresize(image[:48, :45], 1 / 3))
    assert lr.shape == (16, 15, 3)
    grey, _ = degrade(image[..., 0], 3)
    assert np.array_equal(grey, np.repeat(image[:48, :45, :1], 3, axis=2))
    truth, bicubic = srcnn_bicubic(image, 3)
    assert truth.shape == bicubic.shape == (48, 45)
    assert np.array_equal(truth, truth.round())


def test_scores_are_of_what_upscale_returns() -> None:
    images = [("a", noise(40, 42, 3)), ("b", noise(31, 36, seed=1))]
    seen: list[np.ndarray] = []

    def perfect(lr: np.ndarray) -> np.ndarray:
        seen.append(lr)
        return degrade(images[len(seen) - 1][1], 2)[0]

    result = evaluate(perfect, images, 2)
    assert [lr.shape for lr in seen] == [(20, 21, 3), (15, 18, 3)]
    assert [row.name for row in result.rows] == ["a", "b"]
    assert result.mean.network.psnr == math.inf
    assert result.mean.network.ssim == pytest.approx(1)
    assert evaluate(doubled, images, 2).mean.network.psnr < 20


def test_the_srcnn_protocol_rounds_the_luma_of_the_network() -> None:
    image = np.full((40, 40, 3), 100, np.uint8)
    # 0.098 of a level in luma: lost by rounding.
    almost = image + np.array([0, 0, 1], np.uint8)
    assert evaluate(lambda _: almost, [("a", image)], 2).mean.network.psnr < 70
    result = evaluate(lambda _: almost, [("a", image)], 2, protocol="srcnn")
    assert result.mean.network.psnr == math.inf


def test_given_small_pictures_are_used() -> None:
    hr, lr = noise(41, 40, 3), noise(20, 20, 3, seed=1)
    result = evaluate_pairs(doubled, [("a", hr, lr)], 2)
    by_hand = evaluate(lambda _: doubled(lr), [("a", hr)], 2)
    assert result.mean.network == by_hand.mean.network
    bicubic = evaluate(lambda _: imresize(lr, 2), [("a", hr)], 2)
    assert result.mean.bicubic == bicubic.mean.network
    with pytest.raises(ValueError, match="a: the small picture is 20x19; needs 20x20 for x2"):
        evaluate_pairs(doubled, [("a", hr, lr[:-1])], 2)


def test_files_are_paired_by_name() -> None:
    hr = [Path("hr/baby.png"), Path("hr/bird.png"), Path("hr/img_001_HR.png"), Path("hr/a.png")]
    lr = [Path("lr/a_x4.webp"), Path("lr/img_001_LR.png"), Path("lr/babyx4.png"), Path("bird.png")]
    assert pair_paths(hr, lr, 4) == list(zip(hr, [lr[2], lr[3], lr[1], lr[0]], strict=True))
    with pytest.raises(ValueError, match=r"baby\.png has no small picture; needs one called b"):
        pair_paths(hr, lr, 3)


def test_the_table_ends_with_the_mean() -> None:
    header, rows = small_evaluation().table()
    assert header == ["image", "PSNR", "SSIM", "bicubic PSNR", "bicubic SSIM"]
    assert [row[0] for row in rows] == ["a", "b", "mean"]
    psnr = [float(row[1]) for row in rows]
    assert psnr[2] == pytest.approx((psnr[0] + psnr[1]) / 2, abs=0.011)
    assert all(len(row) == len(header) for row in rows)


def test_json_holds_plain_values() -> None:
    evaluation = small_evaluation()
    data = json.loads(json.dumps(evaluation.as_json(), allow_nan=False))
    assert (data["scale"], data["protocol"]) == (2, "rgb")
    assert [image["image"] for image in data["images"]] == ["a", "b"]
    assert data["mean"]["psnr"] == evaluation.mean.network.psnr
    assert data["images"][1]["bicubic"]["ssim"] == evaluation.rows[1].bicubic.ssim
    image = noise(40, 40, 3)
    equal = evaluate(lambda _: image, [("a", image)], 2).as_json()
    assert equal["mean"]["psnr"] is None


def small_evaluation() -> Evaluation:
    return evaluate(doubled, [("a", noise(40, 42, 3)), ("b", noise(30, 36, seed=1))], 2)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (noise(1, 40, 3), "a: picture is 40x1; needs at least 2x2"),
        (noise(12, 40, 3), "a: picture is 40x12; needs at least 15x15 with a border of 2"),
        (noise(40, 40, 4), r"a: picture is uint8 of shape \(40, 40, 4\); needs uint8 grey or RGB"),
        (noise(40, 40, 3).astype(np.uint16), "a: picture is uint16"),
    ],
)
def test_a_picture_that_cannot_be_used_is_named(image: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        evaluate(doubled, [("a", image)], 2)


def test_what_cannot_be_evaluated_is_said() -> None:
    images = [("a", noise(40, 40, 3))]
    with pytest.raises(ValueError, match=r"a: upscale returned uint8 of shape \(20, 20, 3\)"):
        evaluate(lambda lr: lr, images, 2)
    with pytest.raises(ValueError, match="a: upscale returned float64"):
        evaluate(lambda lr: doubled(lr) / 255, images, 2)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="protocol is 'ycc'; needs one of rgb, srcnn"):
        evaluate(doubled, images, 2, protocol="ycc")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="a: scale is 0; needs a whole number from 1"):
        evaluate(doubled, images, 0)
    with pytest.raises(ValueError, match="there is no picture to evaluate"):
        evaluate(doubled, [], 2)


class StandIn:
    """What `pyiqa.create_metric` returns: here the mean difference, or the mean alone."""

    def __init__(self, mode: str) -> None:
        self.metric_mode = mode

    def __call__(self, *images: torch.Tensor) -> torch.Tensor:
        assert len(images) == (2 if self.metric_mode == "FR" else 1)
        assert all(image.ndim == 4 and image.shape[:2] == (1, 3) for image in images)
        return (images[0] - (images[1] if len(images) == 2 else 0)).mean().reshape(1, 1)


@pytest.fixture
def pyiqa(monkeypatch: pytest.MonkeyPatch) -> None:
    modes = {"lpips": "FR", "niqe": "NR"}

    def create_metric(name: str, *, device: str) -> StandIn:
        assert device == "cpu"
        return StandIn(modes[name])

    module = SimpleNamespace(list_models=lambda: list(modes), create_metric=create_metric)
    monkeypatch.setitem(sys.modules, "pyiqa", module)


@pytest.mark.usefixtures("pyiqa")
def test_perceptual_metrics_stand_beside_psnr() -> None:
    image = np.full((40, 40, 3), 51, np.uint8)
    result = evaluate(
        lambda _: image + np.uint8(51), [("a", image)], 2, perceptual=Perceptual(["lpips", "niqe"])
    )
    assert result.mean.network.others == pytest.approx({"lpips": 0.2, "niqe": 0.4}, rel=1e-5)
    assert result.mean.bicubic.others == pytest.approx({"lpips": 0.0, "niqe": 0.2}, rel=1e-5)
    header, rows = result.table()
    assert header[3:5] == ["lpips", "niqe"]
    assert header[-2:] == ["bicubic lpips", "bicubic niqe"]
    assert rows[-1][3:5] == ["0.2000", "0.4000"]
    assert result.as_json()["mean"]["lpips"] == pytest.approx(0.2)


@pytest.mark.usefixtures("pyiqa")
def test_an_unknown_metric_is_said() -> None:
    with pytest.raises(InputError, match=r"no metric 'lpip'\. Did you mean 'lpips'\?"):
        Perceptual(["lpip"])


def test_missing_pyiqa_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiqa", None)
    with pytest.raises(InputError, match=r"lpips needs pyiqa: pip install 'sigform-superres\[metr"):
        Perceptual(["lpips"])
