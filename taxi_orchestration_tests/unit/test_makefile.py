"""The Makefile in directories of their own, with stand-ins for Python and for the programs of the environment."""

import shutil
import subprocess
import venv
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


def make_environment(checkout: Path) -> None:
    """Make a complete environment, in which the code of `checkout` is installed."""
    (checkout / "taxi_orchestration").mkdir()
    (checkout / "taxi_orchestration" / "__init__.py").touch()
    venv.create(checkout / ".venv", symlinks=True)
    (packages,) = (checkout / ".venv").glob("lib/python3*/site-packages")
    (packages / "editable.pth").write_text(str(checkout))
    write_program(checkout / ".venv" / "bin" / "taxi", "#!/bin/sh\necho 'taxi: in use' >&2\nexit 1\n")
    (checkout / ".venv" / ".installed").touch()


def is_made_again(checkout: Path) -> bool:
    """Return whether `make report` would make the environment and install the packages."""
    planned = run_make(checkout, "--dry-run", "report").stdout
    assert "-m venv" not in planned or "pip_install.py" in planned
    return "-m venv" in planned


def test_the_environment_of_a_moved_or_copied_checkout_is_made_again(checkout: Path) -> None:
    make_environment(checkout)
    assert not is_made_again(checkout)
    copy = checkout.with_name("copy")
    shutil.copytree(checkout, copy, symlinks=True)
    assert is_made_again(copy)
    assert is_made_again(checkout.rename(checkout.with_name("moved")))


def test_an_environment_whose_python_is_gone_is_made_again(checkout: Path) -> None:
    make_environment(checkout)
    for python in (checkout / ".venv" / "bin").glob("python*"):
        python.unlink()
        python.symlink_to("/no/such/python3")
    assert is_made_again(checkout)


@pytest.mark.parametrize("linked", [".venv", ".venv/bin"])
def test_an_environment_that_is_a_link_to_that_of_another_checkout_is_kept(checkout: Path, linked: str) -> None:
    make_environment(checkout)
    other = checkout.with_name("other")
    shutil.copytree(checkout, other, symlinks=True)
    shutil.rmtree(other / linked)
    (other / linked).symlink_to(checkout / linked)
    assert not is_made_again(other)


def test_make_clean_stops_the_server_only_with_an_environment_of_its_own(checkout: Path) -> None:
    make_environment(checkout)
    refused = run_make(checkout, "clean")
    assert (refused.returncode, "taxi: in use" in refused.stderr) == (2, True)
    assert (checkout / ".venv").exists()
    moved = checkout.rename(checkout.with_name("moved"))
    done = run_make(moved, "clean")
    assert done.returncode == 0, done.stderr
    assert "was not stopped" in done.stdout
    assert not (moved / ".venv").exists()
