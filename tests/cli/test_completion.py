"""The shells complete commands and options."""

import shutil
import subprocess

import pytest
from aiorsmq.cli.app import new_app

COMMANDS = [name for name in new_app("0") if not name.startswith("-")]
ASK = {
    "bash": """
source "$0"
COMP_WORDS=(aiorsmq "$@") COMP_CWORD=$#
$(complete -p aiorsmq | sed 's/.* -F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
""",
    "fish": """
source $argv[1]
complete -C "aiorsmq $argv[2..]"
""",
}
"""Programs that ask a shell what may follow some words: with the path of the script before them."""


@pytest.fixture
async def script(cli, shell, tmp_path):
    """What is installed for a shell."""
    path = tmp_path / "script"
    await cli(
        *("--install-completion", "--shell", shell, "--output", str(path)),
        env={"HOME": str(tmp_path)},
    )
    return path


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_script(shell, script):
    """The script for each shell names all commands, and the shell can read it."""
    check_syntax(shell, script)
    text = script.read_text()
    assert [name for name in COMMANDS if name not in text] == []
    assert "--url" in text


def check_syntax(shell, script):
    if shutil.which(shell):
        subprocess.run([shell, "-n", script], check=True)


@pytest.mark.parametrize("shell", ["bash", "fish"])
async def test_completion(shell, script, tmp_path):
    """A shell offers the commands, and then the options of one."""
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")

    def ask(*words):
        command = [shell, "-c", ASK[shell], str(script), *words]
        printed = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=tmp_path
        ).stdout
        return {line.split("\t")[0] for line in printed.splitlines()}

    assert set(COMMANDS) <= ask("")
    assert {"--url", "--json"} <= ask("ls", "--")
