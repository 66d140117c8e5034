from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from kit.engine_workers import KilledAtFirstStart, Square, killed_at_once, no_model, plain
from kit.processes import environment

from sigform_kit import InputError, run_items


def workers() -> list[psutil.Process]:
    """The children of this process but those that multiprocessing keeps for itself."""
    children = psutil.Process().children(recursive=True)
    kept = ("resource_tracker", "forkserver")
    return [child for child in children if not any(k in " ".join(child.cmdline()) for k in kept)]


def wait_for(folder: Path, pattern: str) -> None:
    deadline = time.monotonic() + 20
    while not list(folder.glob(pattern)):
        assert time.monotonic() < deadline, f"{pattern} did not appear"
        time.sleep(0.02)


def test_outcomes_carry_item_index_and_value(tmp_path):
    outcomes = sorted(run_items([3, 4, 5], Square(tmp_path), jobs=2), key=lambda o: o.index)
    assert [(o.index, o.item, o.value, o.ok, o.error, o.attempts) for o in outcomes] == [
        (0, 3, 9, True, None, 1),
        (1, 4, 16, True, None, 1),
        (2, 5, 25, True, None, 1),
    ]
    assert all(0 <= o.seconds < 5 for o in outcomes)
    assert workers() == []


def test_one_job_works_in_order_in_one_process(tmp_path):
    outcomes = list(run_items(range(20), Square(tmp_path)))
    assert [o.value for o in outcomes] == [n * n for n in range(20)]
    assert [path.name for path in tmp_path.iterdir()] != [f"set-up-{os.getpid()}"]
    assert len(list(tmp_path.iterdir())) == 1


def test_no_items_start_no_process(tmp_path):
    assert list(run_items([], Square(tmp_path), jobs=4)) == []
    assert list(tmp_path.iterdir()) == []


def test_a_crash_is_tried_again_once_and_an_exception_is_not(tmp_path):
    items = [1, "crash-once", 2, "crash", "raise", "exit", "unpicklable", "print", 3]
    outcomes = list(run_items(items, Square(tmp_path)))
    assert [o.index for o in outcomes] == list(range(9))
    assert [o.attempts for o in outcomes] == [1, 2, 1, 2, 1, 1, 1, 1, 1]
    assert [o.value for o in outcomes if o.ok] == [1, "crash-once done", 4, "print done", 9]
    crash, bad, leaving, unpicklable = [o.error or "" for o in outcomes if not o.ok]
    assert crash == "the worker died twice on this input (killed by SIGKILL)"
    assert bad == "item is bad; needs good"
    assert leaving == "SystemExit: leaving"
    assert "pickle" in unpicklable
    assert len(list(tmp_path.glob("set-up-*"))) == 4
    assert workers() == []


def test_what_a_worker_prints_is_no_result(tmp_path, capfd):
    list(run_items(["print"], Square(tmp_path)))
    assert capfd.readouterr() == ("", "from a library\n")


def test_many_items_keep_memory_flat():
    taken = 0

    def items():
        nonlocal taken
        for _ in range(2000):
            taken += 1
            yield "x" * 10_000

    process = psutil.Process()
    outcomes = run_items((len(item) for item in items()), plain, jobs=2)
    next(outcomes)
    assert taken <= 4
    early = process.memory_info().rss
    assert sum(1 for _ in outcomes) == 1999
    assert process.memory_info().rss - early < 8 * 2**20


def test_a_worker_that_cannot_be_set_up_ends_the_run():
    with pytest.raises(InputError, match=r"cannot be set up: model\.safetensors: No such file"):
        list(run_items([1, 2], no_model))
    with pytest.raises(InputError, match=r"dies while it is set up \(killed by SIGKILL\)"):
        list(run_items([1, 2], killed_at_once, jobs=2))
    assert workers() == []


def test_one_death_while_setting_up_is_forgiven(tmp_path):
    outcomes = list(run_items([-1, -2], KilledAtFirstStart(tmp_path)))
    assert [(o.value, o.attempts) for o in outcomes] == [(1, 1), (2, 1)]


def test_leaving_the_loop_ends_the_processes(tmp_path):
    outcomes = run_items([1, "sleep 60", "sleep 60"], Square(tmp_path), jobs=2)
    assert next(outcomes).value == 1
    outcomes.close()
    assert workers() == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_processes_and_removes_their_half_files(tmp_path, number, code):
    target = tmp_path / "out.txt"
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, click\n"
        "from pathlib import Path\n"
        "from kit.engine_workers import Square\n"
        "from sigform_kit import run, run_items\n"
        "@click.command('script')\n"
        "def script():\n"
        f"    items = ['write {target}', 'sleep 60']\n"
        f"    list(run_items(items, Square(Path({str(tmp_path)!r})), jobs=2))\n"
        "if __name__ == '__main__': sys.exit(run(script))\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)],
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    wait_for(tmp_path, "writing")
    wait_for(tmp_path, "asleep-*")
    children = psutil.Process(process.pid).children(recursive=True)
    # Ctrl-C reaches every process of the terminal, kill only the one that is named.
    target_pid = -process.pid if number == signal.SIGINT else process.pid
    os.kill(target_pid, number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == code
    assert errors == ("script: interrupted\n" if number == signal.SIGINT else "")
    assert psutil.wait_procs(children, timeout=10)[1] == []
    assert not target.exists()
    assert list(tmp_path.glob(".sigform-*")) == []


def test_workers_end_when_their_parent_is_killed(tmp_path):
    code = (
        "from pathlib import Path; from kit.engine_workers import Square\n"
        "from sigform_kit import run_items\n"
        "if __name__ == '__main__':\n"
        f"    list(run_items(['sleep 1'], Square(Path({str(tmp_path)!r}))))\n"
    )
    (tmp_path / "script.py").write_text(code)
    process = subprocess.Popen([sys.executable, str(tmp_path / "script.py")], env=environment())
    wait_for(tmp_path, "asleep-*")
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert children
    assert psutil.wait_procs(children, timeout=10)[1] == []


def test_bad_arguments_are_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="jobs is 0; needs 1 or more"):
        run_items([1], plain, jobs=0)
    with pytest.raises(ValueError, match="engine is 'dask'; needs 'local' or 'ray'"):
        run_items([1], plain, engine="dask")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="needs to be picklable"):
        run_items([1], lambda: abs)
    with pytest.raises(ValueError, match=r"item 1 is .*; needs to be picklable"):
        list(run_items([1, lambda: None], Square(tmp_path)))


def test_many_deaths_leave_no_process_and_no_descriptor(tmp_path):
    def held() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    list(run_items([1], Square(tmp_path)))
    before = held()
    outcomes = run_items(["crash"] * 4, Square(tmp_path))
    counts = []
    for outcome in outcomes:
        assert outcome.error == "the worker died twice on this input (killed by SIGKILL)"
        counts.append(held())
    assert len(set(counts[:-1])) == 1, counts
    assert held() == before
    assert workers() == []
