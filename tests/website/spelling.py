"""Prints the words that the spelling check does not know; `--add` adds them to docs/words.txt."""

import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
PROJECT = FOLDER.parent.parent
WORDS = PROJECT / "docs" / "words.txt"
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**/*.md")


def check(*options: str) -> list[str]:
    """The lines that cspell prints: `npm ci` in this folder installs it."""
    program = FOLDER / "node_modules" / "cspell" / "bin.mjs"
    node = shutil.which("node")
    if node is None or not program.exists():
        raise FileNotFoundError("no cspell: install Node, and run `npm ci --prefix tests/website`")
    command = [node, program, "--config", FOLDER / "cspell.json", "--no-progress", *options]
    done = subprocess.run(
        [*command, *PAGES], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stderr)
    return done.stdout.splitlines()


def sorted_words(words: list[str]) -> list[str]:
    """Without case: `Valkey` stands for `valkey` too."""
    return sorted(
        {word.casefold(): word for word in sorted(words, reverse=True)}.values(), key=str.casefold
    )


def unknown_words() -> list[str]:
    found = check("--words-only", "--unique", "--no-summary")
    return sorted_words([word.removesuffix("'s") for word in found])


if __name__ == "__main__":
    unknown = unknown_words()
    print(*unknown, sep="\n")
    if "--add" in sys.argv:
        words = sorted_words([*WORDS.read_text().split(), *unknown])
        WORDS.write_text("\n".join(words) + "\n")
