"""The command: light help, and refusals before anything is loaded."""

import subprocess
import sys

import pytest
from command_runner import runner

from sigform_studio.cli import app

studio = runner(app)
HEAVY = "{'gradio', 'fastapi', 'torch', 'numpy', 'pandas', 'starlette', 'uvicorn'}"


def test_help_is_light() -> None:
    code = (
        "import sys; sys.argv = ['sigform-studio', '--help']\n"
        "from sigform_studio.cli import main\n"
        f"code = main(); print(code, sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"
    assert "--auth" in done.stdout


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "my-machine"])
def test_others_are_not_let_in_without_a_password(host: str) -> None:
    told = studio("--host", host, "--no-open")
    assert told.code == 2
    assert told.error.startswith(f"--host is {host}, which others reach; needs --auth")


@pytest.mark.parametrize("words", ["anna", "anna:", ":secret"])
def test_a_password_has_a_user(words: str) -> None:
    told = studio("--host", "0.0.0.0", "--auth", words)
    assert told.code == 2
    assert "USER:PASSWORD" in told.error
    assert "secret" not in told.error


def test_version() -> None:
    told = studio("--version")
    assert told.code == 0
    assert told.out.startswith("sigform-studio 0.")
