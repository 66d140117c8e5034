"""The Tab key, in bash, zsh and fish, for `sigform` and every domain's own command."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from sigform_suite.completion import SHELLS, script
from sigform_suite.domains import installed_domains

HEAVY = ("torch", "pandas", "numpy", "scipy", "lightning", "matplotlib", "mne", "PIL", "av")
DOMAINS = {domain.verb: domain for domain in installed_domains() if domain.verb != "studio"}

# The words of a line, the last one being completed, and some of what is offered for it.
LINES: list[tuple[list[str], set[str]]] = [
    (["sigform", ""], {"decode", "forecast", "separate", "upscale", "models", "doctor"}),
    (["sigform", "up"], {"upscale"}),
    (["sigform", "completion", "f"], {"fish"}),
    (["sigform", "upscale", "tr"], {"train"}),
    (["sigform", "upscale", "--sc"], {"--scale"}),
    (["sigform", "upscale", "photo.png", "--over"], {"--overwrite"}),
    (["sigform", "upscale", "--dtype", "b"], {"bfloat16"}),
    (["sigform", "upscale", "train", "--arch"], {"--architecture"}),
    (["sigform", "upscale", "train", "--architecture", "dlg"], {"dlgsanet", "dlgsanet-light"}),
    (["sigform", "decode", "train", "--protocol", "l"], {"loso"}),
    (["sigform", "forecast", "predict", "--mod"], {"--model"}),
    (["sigform", "separate", "eval"], {"evaluate"}),
    (["sigform-upscale", ""], {"upscale", "train", "models", "doctor"}),
    (["sigform-upscale", "--sc"], {"--scale"}),
    (["sigform-forecast", "--hor"], {"--horizon"}),
    (["sigform-separate", "mix.wav", "--pl"], {"--plot"}),
    (["sigform-decode", "stream", "--so"], {"--source"}),
]
FILE_LINES = [
    ["sigform", "upscale", "ph"],
    ["sigform", "separate", "one.wav", "tw"],
    ["sigform", "decode", "train", "rec"],
    ["sigform-forecast", "predict", "new"],
    ["sigform-upscale", "photo.png", "-w", "run/"],
]
LINES += [(words, set()) for words in FILE_LINES]

ASK = """
import importlib, io, json, os, sys
from contextlib import redirect_stdout
from sigform_kit.running import run
from sigform_suite.cli import make_app
shell, apps, heavy, lines = json.loads(sys.argv[1])
answers = []
for words in lines:
    module, _, name = apps.get(words[0], "").partition(":")
    app = getattr(importlib.import_module(module), name) if module else make_app()
    variable = f"_{words[0].replace('-', '_').upper()}_COMPLETE"
    last = words[-1] if shell == "fish" else str(len(words) - 1)
    os.environ |= {variable: f"{shell}_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": last}
    told = io.TextIOWrapper(io.BytesIO(), "utf-8", newline="", write_through=True)
    with redirect_stdout(told):
        run(app, [])
    answers.append(told.buffer.getvalue().decode())
json.dump([answers, sorted(set(heavy) & set(sys.modules))], sys.stdout)
"""


@cache
def answers(shell: str) -> tuple[list[str], list[str]]:
    """What is offered for each of LINES, and what was imported for it that is heavy."""
    apps = {name: d.target for d in DOMAINS.values() for name in d.commands}
    question = json.dumps([shell, apps, HEAVY, [words for words, _ in LINES]])
    done = subprocess.run(
        [sys.executable, "-c", ASK, question], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return tuple(json.loads(done.stdout))


def offered(shell: str, text: str) -> set[str]:
    """The words in the answer that a shell's script is to read."""
    lines = text.splitlines()
    if shell == "zsh":
        return set(lines[1::3])
    return {line.partition(",")[2].partition("\t")[0] for line in lines}


@pytest.mark.parametrize("shell", SHELLS)
def test_verbs_options_and_nested_options_are_offered(shell):
    for (words, wanted), text in zip(LINES, answers(shell)[0], strict=True):
        assert wanted <= offered(shell, text), (words, text)


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_heavy_is_imported_for_it(shell):
    assert answers(shell)[1] == []


def test_the_default_commands_file_is_offered_beside_the_subcommands():
    number = [words for words, _ in LINES].index(["sigform-upscale", ""])
    lines = answers("bash")[0][number].splitlines()
    assert lines[0] == "file,"
    assert lines.index("plain,train") > 0


@pytest.mark.parametrize("shell", SHELLS)
def test_files_are_offered_where_a_file_or_a_name_is_meant(shell):
    for words in FILE_LINES:
        number = [line for line, _ in LINES].index(words)
        assert answers(shell)[0][number].startswith("file"), words


@pytest.mark.parametrize("shell", SHELLS)
def test_the_printed_script_names_every_command(shell):
    done = subprocess.run(
        [sys.executable, "-m", "sigform_suite", "completion", shell],
        capture_output=True,
        text=True,
        check=True,
    )
    for name in ["sigform", *(name for d in DOMAINS.values() for name in d.commands)]:
        variable = f"_{name.replace('-', '_').upper()}_COMPLETE={shell}_complete"
        assert variable in done.stdout
    found = shutil.which(shell)
    if found is not None:
        subprocess.run([found, "-n", "-c", done.stdout], check=True)


def test_a_shell_that_is_none_is_refused():
    with pytest.raises(ValueError, match="shell is 'tcsh'; needs one of bash, zsh, fish"):
        script("tcsh", ["sigform"])


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_after_reading_it(tmp_path):
    read = tmp_path / "completion"
    read.write_text(script("bash", ["sigform"]))
    line = (
        f'PATH="{Path(sys.executable).parent}:$PATH"; source {read}; '
        "COMP_WORDS=(sigform upscale --wid); COMP_CWORD=2; _sigform_completion sigform; "
        'printf "%s\\n" "${COMPREPLY[@]}"; complete -p sigform'
    )
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == "--width"
    assert "-F _sigform_completion sigform" in done.stdout
