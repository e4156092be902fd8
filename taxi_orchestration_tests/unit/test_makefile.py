"""The Makefile in directories of their own, with stand-ins for Python and for the programs of the environment."""

import shutil
import subprocess
from pathlib import Path

import pytest

from taxi_orchestration.settings import PROJECT_DIRECTORY

# Python without the package python3-venv: it makes the environment's program, and then fails for want of pip.
WITHOUT_VENV = """#!/bin/sh
[ "$2" = venv ] || exit 0
mkdir -p .venv/bin && touch .venv/bin/python
echo 'ensurepip is not available'
exit 1
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A directory with the Makefile and the files that its targets depend on."""
    directory = tmp_path / "check out"
    directory.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(PROJECT_DIRECTORY / name, directory)
    return directory


def write_program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def run_make(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=checkout, capture_output=True, text=True, check=False)


def test_an_environment_that_venv_could_not_complete_is_removed(checkout: Path) -> None:
    write_program(checkout / "python3", WITHOUT_VENV)
    for _ in range(2):
        done = run_make(checkout, "backfill", "FROM=2024-01", "PYTHON=./python3")
        assert done.returncode == 2
        assert "ensurepip is not available" in done.stdout
        assert not (checkout / ".venv").exists()


def test_make_lint_works_in_a_directory_with_a_blank_in_its_name(checkout: Path) -> None:
    for name in ("ruff", "mypy", "sqlfluff"):
        write_program(checkout / ".venv" / "bin" / name, "#!/bin/sh\n")
    write_program(checkout / ".venv" / "bin" / "python", "#!/bin/sh\n")
    write_program(checkout / ".venv" / "bin" / "dg", '#!/bin/sh\necho "checked in $VIRTUAL_ENV"\n')
    (checkout / ".venv" / ".installed-dev").touch()
    done = run_make(checkout, "lint")
    assert done.returncode == 0, done.stderr
    assert f"checked in {checkout}/.venv" in done.stdout
