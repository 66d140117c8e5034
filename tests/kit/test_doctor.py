from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from sigform_kit import Check, Console, doctor, run_checks
from sigform_kit.doctor import (
    cache_folder,
    disk,
    distribution,
    gpu_present,
    memory,
    processor_quota,
    processors,
    standard_checks,
)


def ok() -> Check:
    return Check(name="one", status="ok", detail="fine")


def warn() -> Check:
    return Check(name="two", status="warn", detail="little memory", advice="close programs")


def broken_driver() -> Check:
    raise RuntimeError("driver\nmissing")


def test_a_line_for_each_check_with_what_to_do(capsys):
    assert run_checks([ok, warn], Console()) == 0
    assert capsys.readouterr().out == (
        "ok    one: fine\nwarn  two: little memory; close programs\n"
    )


def test_a_check_that_raises_fails_and_leaves_the_others(capsys):
    assert run_checks([broken_driver, ok], Console()) == 1
    assert capsys.readouterr().out == (
        "fail  broken driver: RuntimeError: driver missing\nok    one: fine\n"
    )


def test_json(capsys):
    run_checks([warn], Console(json=True))
    assert json.loads(capsys.readouterr().out) == {
        "name": "two",
        "status": "warn",
        "detail": "little memory",
        "advice": "close programs",
    }


def test_distributions_are_looked_up_without_import():
    assert distribution("sigform-kit").status == "ok"
    missing = distribution("no-such-distribution")
    assert (missing.status, missing.advice) == ("fail", "pip install no-such-distribution")


def test_memory_and_disk_against_what_is_needed(tmp_path):
    assert memory(0.0).status == "ok"
    assert memory(1e6).status == "warn"
    assert disk(tmp_path / "not" / "yet", 0.0).status == "ok"
    assert disk(tmp_path, 1e9).status == "warn"


def test_a_cache_that_cannot_be_written_fails(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    assert disk(tmp_path).status == "fail"


def test_the_cache_folder_follows_the_platform(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("SIGFORM_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/sigform")
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache_folder() == Path.home() / "Library/Caches/sigform"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", "/local")
    assert cache_folder() == Path("/local/sigform/sigform/Cache")
    monkeypatch.setenv("SIGFORM_CACHE", "/chosen")
    assert cache_folder() == Path("/chosen")


def test_the_cache_folder_is_where_weights_are_kept(monkeypatch):
    from sigform_core.weights import cache_folder as kept

    monkeypatch.delenv("SIGFORM_CACHE", raising=False)
    assert cache_folder() == kept()
    monkeypatch.setenv("SIGFORM_CACHE", "/chosen")
    assert cache_folder() == kept()


def test_disk_tells_what_the_cache_holds(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "large.safetensors").write_bytes(b"0" * 3 * 2**20)
    assert disk(tmp_path, 0.0).detail.endswith(f" GiB free for {tmp_path}, which holds 3 MiB")


def test_more_threads_than_cores_are_advised_against(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr(doctor, "processor_quota", lambda: None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert processors() == Check(name="processors", status="ok", detail="2 of 4 cores usable")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert processors().status == "ok"
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert processors() == Check(
        name="processors",
        status="warn",
        detail="2 of 4 cores usable, OMP_NUM_THREADS=8",
        advice="threads in each other's way are slow: set OMP_NUM_THREADS to 2 or less",
    )


def test_a_containers_limit_is_told(tmp_path, monkeypatch):
    limits = tmp_path / "cpu.max"
    limits.write_text("150000 100000\n")
    assert processor_quota(limits) == 1.5
    limits.write_text("max 100000\n")
    assert processor_quota(limits) is None
    assert processor_quota(tmp_path / "none") is None
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr(doctor, "processor_quota", lambda: 1.5)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    told = processors()
    assert told.detail == "4 of 4 cores usable, processor time of 1.5"
    assert (told.status, "use --threads 2" in told.advice) == ("warn", True)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert processors().status == "ok"


@pytest.mark.parametrize(
    ("cuda", "advice"), [("13.0", "update its driver"), (None, "install the CUDA build")]
)
def test_a_gpu_that_torch_cannot_use_is_advised_on(monkeypatch, cuda, advice):
    nothing = SimpleNamespace(is_available=lambda: False)
    fake = SimpleNamespace(
        __version__="9.9",
        cuda=SimpleNamespace(device_count=lambda: 0),
        backends=SimpleNamespace(mps=nothing),
        get_num_threads=lambda: 4,
        version=SimpleNamespace(cuda=cuda),
    )
    monkeypatch.setitem(sys.modules, "torch", fake)
    monkeypatch.setattr(doctor, "gpu_present", lambda: False)
    assert doctor.torch().status == "ok"
    monkeypatch.setattr(doctor, "gpu_present", lambda: True)
    told = doctor.torch()
    assert told.status == "warn"
    assert advice in told.advice


def test_a_gpu_is_seen_by_its_device_file(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda _: None)
    assert not gpu_present(tmp_path)
    (tmp_path / "nvidiactl").touch()
    assert not gpu_present(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert gpu_present(tmp_path)


def test_a_torch_that_does_not_import_is_to_be_installed_again(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    told = doctor.torch()
    assert (told.status, told.advice) == ("fail", "pip install --force-reinstall torch")


def test_the_standard_checks_cover_the_machine(tmp_path):
    checks = list(standard_checks("sigform-kit", cache=tmp_path))
    names = [getattr(getattr(c, "func", c), "__name__", "") for c in checks]
    expected = ["python", "distribution", "processors", "memory", "disk", "torch"]
    assert names == expected


def test_torch_is_imported_only_by_its_check(tmp_path):
    (tmp_path / "torch.py").write_text(
        "from types import SimpleNamespace as N\n"
        "__version__ = '9.9'\n"
        "cuda = N(device_count=lambda: 1, get_device_name=lambda n: f'GPU {n}')\n"
        "backends = N(mps=N(is_available=lambda: False))\n"
        "get_num_threads = lambda: 4\n"
    )
    code = (
        "import sys; from pathlib import Path; from sigform_kit.doctor import standard_checks\n"
        "*others, torch = standard_checks('sigform-kit', cache=Path('none'))\n"
        "print([c().status for c in others], 'torch' in sys.modules)\n"
        "print(torch().detail, 'torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    statuses, detail = done.stdout.splitlines()
    assert statuses.endswith("] False")
    assert "fail" not in statuses
    assert detail == "9.9, 4 threads, GPU 0 True"


def test_a_partial_check_is_called_by_its_functions_name(capsys):
    def failing(folder: Path) -> Check:
        raise OSError(5, "Input/output error", str(folder))

    run_checks([partial(failing, Path("/x"))], Console())
    assert capsys.readouterr().out == "fail  failing: /x: Input/output error\n"
