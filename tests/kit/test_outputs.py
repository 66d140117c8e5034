from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sigform_kit import InputError, Policy, UsageError, check_target, check_targets, output


def write(path: Path, text: str, policy: Policy = "refuse", **options: bool) -> None:
    with output(path, policy, **options) as temporary:
        temporary.write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_file_appears_only_when_complete(tmp_path):
    target = tmp_path / "out.nii.gz"
    with output(target) as temporary:
        temporary.write_text("new")
        assert temporary.parent == tmp_path
        assert temporary.name.endswith(".nii.gz")
        assert not target.exists()
    assert target.read_text() == "new"
    assert names(tmp_path) == ["out.nii.gz"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing(tmp_path, error):
    def write_half() -> None:
        with output(tmp_path / "out.txt") as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert names(tmp_path) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(
    old=st.none() | st.binary(max_size=20),
    new=st.binary(max_size=20),
    policy=st.sampled_from(["refuse", "overwrite", "skip"]),
    breaks=st.booleans(),
)
def test_the_target_is_old_or_new_and_never_between(tmp_path, old, new, policy, breaks):
    target = tmp_path / "out.bin"
    target.unlink(missing_ok=True)
    if old is not None:
        target.write_bytes(old)
    try:
        with output(target, policy) as temporary:
            temporary.write_bytes(new)
            if breaks:
                raise RuntimeError
    except (InputError, RuntimeError):
        assert breaks or (policy == "refuse" and old is not None)
    replaced = not breaks and (old is None or policy == "overwrite")
    expected = new if replaced else old
    assert (target.read_bytes() if target.exists() else None) == expected
    assert set(names(tmp_path)) <= {"out.bin"}


def test_an_existing_file_is_refused_skipped_or_replaced(tmp_path):
    target = tmp_path / "out.txt"
    target.write_text("old")
    with pytest.raises(InputError, match=r"out\.txt exists; --overwrite replaces it"):
        check_target(target)
    with pytest.raises(InputError, match="exists"):
        write(target, "new")
    assert check_target(target, "skip") is False
    assert check_target(target, "overwrite") is True
    write(target, "new", "overwrite")
    assert target.read_text() == "new"


@pytest.mark.parametrize("links", [True, False])
def test_a_target_that_appears_meanwhile_is_kept(tmp_path, monkeypatch, links):
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    if not links:
        monkeypatch.setattr(os, "link", no_links)
    target = tmp_path / "out.txt"

    def write_while_another_does(policy: Policy) -> None:
        target.unlink(missing_ok=True)
        with output(target, policy) as temporary:
            temporary.write_text("mine")
            target.write_text("theirs")

    with pytest.raises(InputError, match="exists"):
        write_while_another_does("refuse")
    write_while_another_does("skip")
    assert target.read_text() == "theirs"
    write(tmp_path / "new.txt", "mine")
    assert names(tmp_path) == ["new.txt", "out.txt"]


def test_a_fresh_file_has_the_usual_permissions(tmp_path):
    write(tmp_path / "ours", "")
    (tmp_path / "plain").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_text("old")
    link = tmp_path / "link"
    link.symlink_to("real")
    write(link, "new", "overwrite")
    assert link.is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_places_that_cannot_be_written_are_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="is a folder; needs a file name"):
        check_target(tmp_path)
    with pytest.raises(InputError, match="missing does not exist"):
        check_target(tmp_path / "missing" / "out.txt")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is not a folder"):
        check_target(tmp_path / "file" / "out.txt", make_parents=True)
    with pytest.raises(InputError, match="/dev/null is not a regular file; use - for stdout"):
        check_target("/dev/null", "overwrite")
    # Root may write anywhere, so a forbidden folder has to be acted.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match="is not writable"):
        check_target(tmp_path / "out.txt")


def test_folders_are_made_when_asked(tmp_path):
    target = tmp_path / "a" / "b" / "out.txt"
    assert check_target(target, make_parents=True)
    assert not target.parent.exists()
    write(target, "new", make_parents=True)
    assert target.read_text() == "new"


def test_nothing_written_is_an_error(tmp_path):
    with (
        pytest.raises(InputError, match=r"out\.txt: nothing was written"),
        output(tmp_path / "out.txt"),
    ):
        pass


def test_an_error_about_the_temporary_file_names_the_target(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, output(tmp_path / "out.txt") as temporary:
        temporary.read_text()
    assert caught.value.filename == str(tmp_path / "out.txt")


def test_two_targets_must_differ_and_no_input_be_replaced(tmp_path):
    data = tmp_path / "data.txt"
    data.touch()
    (tmp_path / "link.txt").symlink_to(data)
    os.link(data, tmp_path / "hard.txt")
    new = tmp_path / "new.txt"
    assert check_targets([new, tmp_path / "other.txt"], inputs=[data]) == [True, True]
    assert check_targets(["-", "-"], inputs=["-"]) == [True, True]
    assert check_targets([data, new], "skip") == [False, True]
    with pytest.raises(UsageError, match=r"new\.txt would be written twice"):
        check_targets([new, tmp_path / "." / ".." / tmp_path.name / "new.txt"])
    for name in ("data.txt", "link.txt", "hard.txt"):
        with pytest.raises(UsageError, match=f"output .*{name} is also an input"):
            check_targets([tmp_path / name], "overwrite", inputs=[data])


def test_a_dash_is_stdout(capfdbinary):
    with output("-") as temporary:
        temporary.write_bytes(b"\x00\xff")
    assert capfdbinary.readouterr().out == b"\x00\xff"
    assert not temporary.exists()


def test_a_full_stdout_is_named():
    with open("/dev/full", "w") as out, contextlib.redirect_stdout(out):  # noqa: PTH123
        with pytest.raises(OSError, match="No space left") as caught:
            write(Path("-"), "text" * 10_000)
        with contextlib.suppress(OSError):
            out.flush()
    assert caught.value.filename == "stdout"


def test_a_stdout_that_nobody_reads_stays_a_broken_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as out, contextlib.redirect_stdout(out):  # noqa: PTH123
        with pytest.raises(BrokenPipeError):
            write(Path("-"), "text" * 10_000)
        with contextlib.suppress(OSError):
            out.flush()
