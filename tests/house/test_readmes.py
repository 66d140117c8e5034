"""Every command in every README is run, on small files of the test.

Of those that cannot be run here, the words are read by the command all the same, so that a verb
or an option that is not there is found.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import click
import pytest
from command_runner import Told, runner
from house.readme_worlds import ROOT, WORLDS, names_of, nothing

from sigform_suite.cli import make_app
from sigform_suite.domains import installed_domains

READMES = [ROOT / "README.md", *sorted(ROOT.glob("*/*/README.md")), ROOT / "examples/README.md"]

ONLY_READ = {
    "lsl:": "needs a Lab Streaming Layer source",
    "-w mossformer2-": "downloads the authors' weights",
    "sigform studio": "serves until it is stopped",
    "sigform-studio": "serves until it is stopped",
    "--latents": "needs the weights of an autoencoder",
}
"""Parts of commands that are not run, and why."""

NOT_OURS = {
    "sh scripts/example": "downloads an environment",
    "sh scripts/test": "runs this test",
}
"""Commands of the repository that are only looked for."""

SMALLER = {
    "sigform-forecast train": "--steps 2 --d-model 8 --budget 1s",
    "sigform-forecast (data|sales)": "--steps 2 --d-model 8 --budget 1s",
    "sigform-forecast backtest": "--steps 2 --d-model 8 --budget 1s",
    "sigform forecast": "--steps 2 --d-model 8 --budget 1s",
    "sigform-separate train": "--steps 2 --seconds 0.5 --batch-size 2 --validate-every 1",
    "sigform-separate evaluate --corpus": "--count 2 -w run/weights.safetensors",
    "sigform-upscale train": "--steps 2 --patch 8 --batch-size 2 --validate-every 1",
    "sigform-upscale scan.tif": "--width 100",
    "sigform-decode train": "--epochs 1 --batch-size 8",
    "sigform-decode stream": "--speed 100",
    "sigform-generate image": "-n 2",
    "sigform-generate (video|av)": "-n 1 --steps ddim2",
    "sigform-generate project": "-n 2 --seconds 0.5 --fps 4",
    "sigform-generate train": "--size 32 --steps 2 --batch-size 4 --validate-every 1",
    "sigform-generate train (video|av)": "--frames 4",
    "sigform-generate train av": "--backbone-steps 1",
    "sigform-generate evaluate": "-n 8",
}
"""What is added so that a command takes seconds, by how it begins."""

BEFORE = {"sigform-forecast predict": "sigform-forecast train data.csv -n 24 -o m.safetensors"}
"""What must have been done, by how the command begins."""

SLOW = (
    " train ",
    " predict ",
    "--jobs",
    "evaluate",
    "backtest",
    "sigform forecast",
    "clip.mp4",
    "examples/",
)


@dataclass(frozen=True)
class Line:
    """A command as it stands in a README."""

    readme: Path
    text: str

    @property
    def place(self) -> str:
        return str(self.readme.relative_to(ROOT))


def blocks(readme: Path, *languages: str) -> list[tuple[str, str]]:
    """The fenced blocks of these languages: the language and the text."""
    fenced = re.findall(r"^```(\w+)\n(.*?)^```$", readme.read_text("utf-8"), re.M | re.S)
    return [(language, text) for language, text in fenced if language in languages]


def commands(readme: Path) -> Iterator[str]:
    """The commands of the sh and console blocks, without comments, a line each."""
    for language, text in blocks(readme, "sh", "console"):
        for line in re.sub(r"\\\n\s*", "", text).splitlines():
            if language == "console":
                if not line.startswith("$ "):
                    continue
                line = line.removeprefix("$ ")
            words = re.sub(r"(^|\s)#.*$", "", line).strip()
            if words:
                yield " ".join(words.split())


LINES = [Line(readme, text) for readme in READMES for text in commands(readme)]
INSTALLING = [line for line in LINES if re.match(r"pip install|uv tool install|uvx ", line.text)]
OURS = [line for line in LINES if re.match(r"([A-Z_]+=\S+ )?sigform", line.text)]
RUN = [line for line in OURS if not any(part in line.text for part in ONLY_READ)]
READ = [line for line in OURS if line not in RUN]


def marked(lines: list[Line]) -> list[object]:
    return [
        pytest.param(
            line,
            id=f"{line.readme.parent.name}: {line.text}",
            marks=[pytest.mark.slow] if any(part in line.text for part in SLOW) else [],
        )
        for line in lines
    ]


@cache
def apps() -> dict[str, click.Command]:
    """The command of each console script, and `sigform`."""
    found: dict[str, click.Command] = {"sigform": make_app()}
    for domain in installed_domains():
        for entry in importlib.metadata.entry_points(group="sigform.apps", name=domain.verb):
            found |= dict.fromkeys(domain.commands, entry.load())
    return found


@pytest.fixture(scope="session")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of the files of each README, made when one is first asked for."""
    return {"": tmp_path_factory.mktemp("worlds")}


@pytest.fixture
def world(
    request: pytest.FixtureRequest,
    worlds: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """A copy of the files of the README of `line`, as the folder that one is in."""
    place = request.getfixturevalue("line").place
    if place not in worlds:
        template = worlds[""] / place.replace("/", "-")
        template.mkdir()
        WORLDS.get(place, nothing)(template)
        worlds[place] = template
    folder = tmp_path / "world"
    shutil.copytree(worlds[place], folder)
    monkeypatch.chdir(folder)
    return folder


def prepared(text: str, folder: Path) -> list[str]:
    """The words of a command, made small; what it is to write is not there yet."""
    words = shlex.split(text)
    for begins, more in SMALLER.items():
        if re.match(begins, text):
            words += more.split()
    for option, value in itertools.pairwise(words):
        target = folder / value
        if option in ("-o", "--output") and target.exists():
            shutil.rmtree(target) if target.is_dir() else target.unlink()
    return words


def run_line(text: str, folder: Path) -> Told:
    """Runs a command; of a shell's syntax, `cat FILE |` and `> FILE`."""
    given = re.match(r"cat (\S+) \| ", text)
    kept = re.search(r" > (\S+)$", text)
    plain = text[given.end() if given else 0 : kept.start() if kept else None]
    name, *words = prepared(plain, folder)
    stdin = (folder / given[1]).read_bytes() if given else b""
    told = runner(apps()[name])(*words, stdin=stdin)
    if kept:
        (folder / kept[1]).write_bytes(told.raw)
    return told


@pytest.mark.parametrize("line", marked(RUN))
def test_it_runs(line: Line, world: Path) -> None:
    for begins, first in BEFORE.items():
        if line.text.startswith(begins):
            assert run_line(first, world).code == 0
    before = {path for path in world.rglob("*") if path.is_file()}
    told = run_line(line.text, world)
    assert told.code == 0, told.err
    written = {path for path in world.rglob("*") if path.is_file()} - before
    assert told.raw or written


@pytest.mark.parametrize("line", READ, ids=[line.text for line in READ])
def test_its_words_are_understood(line: Line, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reached: list[click.Context] = []

    def stop(_command: click.Command, ctx: click.Context) -> None:
        reached.append(ctx)

    name, *words = prepared(line.text, world)
    if "=" in name:
        monkeypatch.setenv(*name.split("=", 1))
        name, *words = words
    app = apps()[name]
    monkeypatch.setattr(click.Command, "invoke", stop)
    told = runner(app)(*words)
    assert told.code == 0, told.err
    assert reached


@pytest.mark.parametrize("line", INSTALLING, ids=[line.text for line in INSTALLING])
def test_what_it_installs_is_there_to_install(line: Line) -> None:
    projects = {
        project["name"]: (path.parent, project)
        for path in ROOT.glob("*/*/pyproject.toml")
        for project in [tomllib.loads(path.read_text("utf-8"))["project"]]
    }
    words = shlex.split(line.text)
    named = [word for word in words if word.startswith("sigform")]
    assert named
    for word in named:
        wanted = re.match(
            r"([\w-]+)(?:\[([\w,-]+)\])?(?: @ git\+ADDRESS#subdirectory=(.+))?$", word
        )
        assert wanted is not None, word
        name, extras, folder = wanted.groups()
        if words[0] == "uvx" and name in projects[words[2]][1]["scripts"]:
            continue
        at, project = projects[name]
        assert set((extras or "").split(",")) - {""} <= set(
            project["optional-dependencies"] if extras else []
        )
        assert folder is None or ROOT / folder == at


def test_no_command_is_left_out() -> None:
    told = [*INSTALLING, *OURS]
    for line in LINES:
        if line in told:
            continue
        if line.text in NOT_OURS:
            assert (ROOT / line.text.split()[1]).is_file()
        else:
            assert re.match(r"cat \S+ \| sigform", line.text), f"{line.place}: {line.text}"
    assert len(RUN) > 30


PIPED = [line for line in LINES if line.text.startswith("cat ")]


@pytest.mark.parametrize("line", marked(PIPED))
def test_it_runs_in_a_pipe(line: Line, world: Path) -> None:
    told = run_line(line.text, world)
    assert told.code == 0, told.err
    assert (world / line.text.split()[-1]).stat().st_size > 0


PYTHON = [
    pytest.param(
        Line(readme, text),
        id=readme.parent.name,
        marks=[pytest.mark.slow] if readme.parent.name in ("forecast", "generate") else [],
    )
    for readme in READMES
    if "packages" in readme.parts
    for _, text in blocks(readme, "python")
]


@pytest.mark.parametrize("line", PYTHON)
def test_its_python_runs(line: Line, world: Path) -> None:
    exec(compile(line.text, line.place, "exec"), names_of(line.place))
    assert world.is_dir()


def test_the_tables_of_models_are_up_to_date() -> None:
    script = ROOT / "scripts/readme_tables.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True)
    assert done.stdout == "", "python scripts/readme_tables.py --write"
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("readme", READMES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_it_links_to_is_there(readme: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", readme.read_text("utf-8")):
        if not target.startswith("http"):
            assert (readme.parent / target).exists(), target
