"""Device, precision, threads and generators; what this machine lacks is simulated."""

import pytest
import torch

from sigform_core.device import generator, pick_device, pick_dtype, precision_for, set_threads

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    """Makes torch report `cuda` GPUs, and Metal or not."""

    def report(cuda: int, mps: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return report


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(2, True, "cuda"), (0, True, "mps"), (0, False, "cpu")]
)
def test_auto_takes_the_best(machine, cuda: int, mps: bool, expected: str) -> None:
    machine(cuda, mps)
    assert pick_device("auto") == torch.device(expected)


def test_named_devices(machine) -> None:
    machine(2, True)
    for name in ("cpu", "cuda", "cuda:0", "cuda:1", "mps"):
        assert pick_device(name) == torch.device(name)
    with pytest.raises(ValueError, match="'cuda:2'; this machine has cuda:0 to cuda:1"):
        pick_device("cuda:2")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_absent_devices_are_named(machine, name: str) -> None:
    machine(0, False)
    with pytest.raises(ValueError, match=f"device is '{name}', which this machine lacks"):
        pick_device(name)


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:0", "", "CPU", "cudas"])
def test_other_names_are_refused(machine, name: str) -> None:
    machine(2, True)
    with pytest.raises(ValueError, match="needs auto, cpu, cuda, cuda:N or mps"):
        pick_device(name)


def test_dtypes_by_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_dtype("float32", CPU) == torch.float32
    assert pick_dtype("bfloat16", CPU) == torch.bfloat16
    assert pick_dtype("float64", CPU) == torch.float64
    assert pick_dtype("float16", MPS) == torch.float16
    for name, device, says in [
        ("float16", CPU, "'float16' on the CPU"),
        ("float64", MPS, "'float64' on MPS"),
        ("half", CPU, "dtype is 'half'; needs float32, bfloat16, float16, float64"),
    ]:
        with pytest.raises(ValueError, match=says):
            pick_dtype(name, device)
    for native in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: native)  # noqa: B023
        if native:
            assert pick_dtype("bfloat16", CUDA) == torch.bfloat16
        else:
            with pytest.raises(ValueError, match="'bfloat16' on a GPU without it"):
                pick_dtype("bfloat16", CUDA)


def test_precision_names() -> None:
    assert precision_for(torch.float32, CPU) == "32-true"
    assert precision_for(torch.float64, CPU) == "64-true"
    assert precision_for(torch.bfloat16, CPU) == "bf16-mixed"
    assert precision_for(torch.float16, CUDA) == "16-mixed"
    with pytest.raises(ValueError, match="training dtype is float16 on mps; needs CUDA"):
        precision_for(torch.float16, MPS)
    with pytest.raises(ValueError, match=r"training dtype is torch\.int8"):
        precision_for(torch.int8, CPU)


def test_threads() -> None:
    before = torch.get_num_threads()
    try:
        set_threads(before + 1)
        assert torch.get_num_threads() == before + 1
        set_threads(None)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    with pytest.raises(ValueError, match="threads is 0"):
        set_threads(0)


def test_generator_leaves_the_global_one_alone() -> None:
    before = torch.get_rng_state()
    draws = [torch.rand(3, generator=generator(seed)) for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.gpu
def test_gpu_generator_and_dtype() -> None:
    device = pick_device("cuda:0")
    assert torch.rand(3, generator=generator(0, device), device=device).device == device
    assert pick_dtype("bfloat16", device) == torch.bfloat16
