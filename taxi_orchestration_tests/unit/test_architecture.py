"""The walls between the parts: who may import whom, and that importing does nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from taxi_orchestration.settings import PROJECT_DIRECTORY

PACKAGE = PROJECT_DIRECTORY / "taxi_orchestration"
FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = sorted(
    ".".join(path.relative_to(PROJECT_DIRECTORY).with_suffix("").parts).removesuffix(".__init__") for path in FILES
)

# What Dagster's own interfaces ask for and it does not export; each import says why it is there.
PRIVATE_IMPORTS = {
    "instance_storage.py": {"dagster._core.storage.local_compute_log_manager"},
    "checks/finding.py": {"dagster._core.definitions.asset_checks.asset_check_evaluation"},
    "run_launcher.py": {"dagster._core.launcher.base"},
}


def imported(path: Path) -> set[str]:
    """Every module that a file imports, at its top or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def among(names: set[str], *forbidden: str) -> set[str]:
    return {name for name in names if any(name == f or name.startswith(f"{f}.") for f in forbidden)}


@pytest.mark.parametrize("path", sorted((PACKAGE / "tlc").glob("*.py")), ids=lambda path: path.name)
def test_tlc_knows_neither_dagster_nor_postgresql_nor_any_other_part(path: Path) -> None:
    names = imported(path)
    assert not among(names, "dagster", "dagster_dbt", "dbt", "psycopg", "sqlalchemy", "pgpq")
    own = among(names, "taxi_orchestration")
    assert own == among(own, "taxi_orchestration.tlc", "taxi_orchestration.settings")


@pytest.mark.parametrize("path", sorted((PACKAGE / "warehouse").glob("*.py")), ids=lambda path: path.name)
def test_the_warehouse_knows_neither_dagster_nor_the_tlc_nor_any_other_part(path: Path) -> None:
    names = imported(path)
    assert not among(names, "dagster", "dagster_dbt", "dbt", "requests")
    own = among(names, "taxi_orchestration")
    assert own == among(own, "taxi_orchestration.warehouse", "taxi_orchestration.settings")


# Each part may import those before it, itself, and nothing after it.
ORDER = ["settings notify", "tlc warehouse", "scratch partitions loading dbt_runner", "assets checks", "automation"]
TOP = "definitions"


def layer_of(name: str) -> int | None:
    part = name.split(".")[1] if "." in name else ""
    return next((i for i, parts in enumerate(ORDER) if part in parts.split()), None)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    me = ".".join(path.relative_to(PROJECT_DIRECTORY).with_suffix("").parts)
    names = among(imported(path), "taxi_orchestration")
    layer = layer_of(me)
    if layer is not None:
        assert not {name for name in names if (layer_of(name) or 0) > layer}
        assert not among(names, f"taxi_orchestration.{TOP}", "taxi_orchestration.cli", "taxi_orchestration.terminal")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_dagsters_private_parts_are_left_alone(path: Path) -> None:
    private = {name for name in imported(path) if "._" in name and name.split(".")[0] in ("dagster", "dagster_dbt")}
    modules = {name for name in private if not name.rsplit(".", 1)[1][:1].isupper()}
    assert modules == PRIVATE_IMPORTS.get(str(path.relative_to(PACKAGE)), set())


IMPORT_ALL = """
import importlib, os, sys

HARMLESS = os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NONBLOCK", 0)
own, seen = sys.argv[1], []

def hook(event, args):
    if event in ("socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.posix_spawn", "os.fork"):
        what = str(args[0] if event == "subprocess.Popen" else args)
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod"):
        what = str(args[0])
    elif event == "open" and isinstance(args[2], int) and args[2] & ~HARMLESS and (args[2] & (os.O_WRONLY | os.O_RDWR)):
        what = str(args[0])
    else:
        return
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith(own):
            seen.append(f"{event} {what} from {frame.f_code.co_filename}:{frame.f_lineno}")
            break
        frame = frame.f_back

sys.dont_write_bytecode = True
# What the libraries do when they are imported is theirs; they are loaded before the hook is.
for name in sys.argv[2].split():
    importlib.import_module(name)
for name in [name for name in sys.modules if name.split(".")[0] == "taxi_orchestration"]:
    del sys.modules[name]
sys.addaudithook(hook)
for name in sys.argv[2].split():
    importlib.import_module(name)
print("\\n".join(seen))
"""


def test_importing_any_module_connects_to_nothing_starts_nothing_and_writes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", IMPORT_ALL, str(PACKAGE), " ".join(MODULES)]
    home = tmp_path / "home"
    done = subprocess.run(
        command, env={"TAXI_HOME": str(home), "PATH": "/usr/bin:/bin"}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "module", ["taxi_orchestration.cli", "taxi_orchestration.settings", "taxi_orchestration.tlc.client"]
)
def test_what_a_light_command_needs_does_not_import_dagster(module: str) -> None:
    code = f"import sys, {module}; print([n for n in ('dagster', 'dbt', 'pyarrow', 'pandas') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_DIRECTORY, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))
