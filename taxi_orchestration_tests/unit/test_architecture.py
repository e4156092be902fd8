"""Rules for the code: imports between packages, imports without side effects, one clock, and names of tests."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from taxi_orchestration.settings import PROJECT_DIRECTORY

PACKAGE = PROJECT_DIRECTORY / "taxi_orchestration"
FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted((PROJECT_DIRECTORY / "taxi_orchestration_tests").rglob("*.py"))
MODULES = sorted(
    ".".join(path.relative_to(PROJECT_DIRECTORY).with_suffix("").parts).removesuffix(".__init__") for path in FILES
)

# A package may import only packages of later groups. Packages of one group do not import each other. tlc.dataset
# imports no other package, so that months and asset_keys can import it.
ORDER = [
    {"cli"},
    {"definitions"},
    {"defs"},
    {"instance"},
    {"report", "quality", "dbt", "loading"},
    {"warehouse", "tlc"},
    {"postgres"},
    {"settings", "months", "asset_keys"},
    {"tlc.dataset"},
]

# Third-party libraries that a package must not import. Only the report may import pandas.
FORBIDDEN = {
    "tlc": {"dagster", "dagster_dbt", "dbt", "psycopg", "sqlalchemy", "pgpq"},
    "postgres": {"dagster", "dagster_dbt", "dbt", "requests", "pyarrow"},
    "warehouse": {"dagster", "dagster_dbt", "dbt", "requests"},
    "loading": {"dagster", "dagster_dbt", "dbt"},
    "quality": {"dagster", "dagster_dbt", "dbt", "psycopg", "requests"},
    "report": {"dagster", "dagster_dbt", "dbt", "requests"},
    "months": {"dagster"},
    "settings": {"dagster"},
}

# The only module that may import the unexported names of each tool.
INTERNALS = {
    "dagster": "instance/dagster_internals.py",
    "dagster_postgres": "instance/dagster_internals.py",
    "dbt": "dbt/dbt_internals.py",
    "dbt_common": "dbt/dbt_internals.py",
    "dagster_dbt": "dbt/dagster_dbt_internals.py",
}
# dbt's documented programmatic entry point, which no top-level package exports.
DOCUMENTED = {"dbt.cli.main"}
# Public in spite of the underscore: dunder names, _replace of named tuples, and os._exit.
PUBLIC = re.compile("__|_replace$|_exit$|[^_]")


def find_imports(path: Path) -> set[str]:
    """Return every module that a file imports, at its top level or inside a function."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def find_package(path: Path) -> str:
    """Return the package, or the top-level module, that a file belongs to."""
    return find_package_of_module(".".join(["taxi_orchestration", *path.relative_to(PACKAGE).with_suffix("").parts]))


def find_package_of_module(module: str) -> str:
    parts = module.split(".")[1:]
    return ".".join(parts[:2]) if parts[:2] == ["tlc", "dataset"] else parts[0]


def group_of(name: str) -> int:
    """Return the position of a package in the order."""
    return next(i for i, group in enumerate(ORDER) if name in group)


def format_path(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", [p for p in FILES if p != PACKAGE / "__init__.py"], ids=format_path)
def test_imports_follow_the_order_of_the_layers(path: Path) -> None:
    imports = {find_package_of_module(name) for name in find_imports(path) if name.startswith("taxi_orchestration.")}
    package = find_package(path)
    wrong = {name for name in imports if name != package and group_of(name) <= group_of(package)}
    assert not wrong, f"{format_path(path)} imports {', '.join(sorted(wrong))}, which is not after {package} in ORDER"


@pytest.mark.parametrize("path", FILES, ids=format_path)
def test_a_package_imports_no_library_of_another_package(path: Path) -> None:
    libraries = {name.split(".")[0] for name in find_imports(path)}
    package = find_package(path)
    assert not libraries & (FORBIDDEN.get(package, set()) | ({"pandas"} if package != "report" else set()))


def find_unexported_names(code: str) -> set[str]:
    """Return the submodules of tools that the code imports from, and the private attributes of other objects."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names if "." in alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module:
            private = [alias.name for alias in node.names if alias.name.startswith("_")]
            found.update([f"{node.module}.{name}" for name in private] or [node.module] * ("." in node.module))
        elif isinstance(node, ast.Attribute) and not PUBLIC.match(node.attr):
            owner = ast.unparse(node.value)
            found.update({f"{owner}.{node.attr}"} if owner not in ("self", "cls") else set())
    return found - DOCUMENTED


@pytest.mark.parametrize("path", FILES, ids=format_path)
def test_names_that_a_tool_does_not_export_are_used_in_one_module(path: Path) -> None:
    for name in find_unexported_names(path.read_text()):
        tool, is_private = name.split(".")[0], name.rpartition(".")[2].startswith("_")
        module = format_path(path)
        allowed = {INTERNALS[tool]} if tool in INTERNALS else set(INTERNALS.values()) if is_private else {module}
        assert module in allowed, f"{module} uses {name}: use it in {' or '.join(sorted(allowed))}"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import dagster._core.storage", "dagster._core.storage"),
        ("import dagster._core as core", "dagster._core"),
        ("from dagster import _core", "dagster._core"),
        ("from dagster_postgres.utils import retry_pg_creation_fn", "dagster_postgres.utils"),
        ("import dagster as dg\ndg._core.storage", "dg._core"),
        ("instance.storage._engine.dispose()", "instance.storage._engine"),
        ("self._own = entry._replace(a=1)", ""),
        ("from dbt.cli.main import dbtRunner", ""),
    ],
)
def test_every_kind_of_access_to_an_unexported_name_is_found(code: str, name: str) -> None:
    assert find_unexported_names(code) == ({name} if name else set())


@pytest.mark.parametrize("path", TESTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_shared_test_code_is_imported_only_from_support(path: Path) -> None:
    shared = {name for name in find_imports(path) if name.startswith("taxi_orchestration_tests.")}
    assert all(name.startswith("taxi_orchestration_tests.support") for name in shared)


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
# Libraries are imported before the hook is added: only side effects of this package count.
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
    "module",
    [
        "taxi_orchestration.cli.commands",
        "taxi_orchestration.cli.connect",
        "taxi_orchestration.cli.terminal",
        "taxi_orchestration.instance.record_cache",
        "taxi_orchestration.settings",
        "taxi_orchestration.tlc.client",
    ],
)
def test_modules_of_light_commands_import_neither_dagster_nor_dbt(module: str) -> None:
    code = f"import sys, {module}; print([n for n in ('dagster', 'dbt', 'pyarrow', 'pandas') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_DIRECTORY, capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


# Modules that measure a pause or the age of a file. No decision in them depends on the date.
TIMERS = {"defs/clock.py", "tlc/client.py"}


@pytest.mark.parametrize("path", FILES, ids=format_path)
def test_only_the_clock_reads_the_current_date(path: Path) -> None:
    calls = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    used = calls & {"datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
    assert not used or str(path.relative_to(PACKAGE)) in TIMERS


LATER_MONTH = re.compile(r"days=\d+\)+\.replace\(day=1\)")


@pytest.mark.parametrize("path", [*FILES, *TESTS], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_month_arithmetic_is_only_in_months_py(path: Path) -> None:
    assert not LATER_MONTH.search(path.read_text()), "use next_month or add_months of months.py"


@pytest.mark.parametrize("path", FILES, ids=format_path)
def test_every_module_has_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", FILES, ids=format_path)
def test_target_and_schema_are_passed_together_as_a_warehouse(path: Path) -> None:
    # Only the class Warehouse has both as fields. Code that needs both takes a Warehouse.
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            arguments = node.args
            names = {argument.arg for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        elif isinstance(node, ast.ClassDef) and node.name != "Warehouse":
            fields = [line.target for line in node.body if isinstance(line, ast.AnnAssign)]
            names = {field.id for field in fields if isinstance(field, ast.Name)}
        else:
            continue
        assert not {"target", "schema"} <= names, f"{format_path(path)}:{node.lineno}: pass a Warehouse instead"


@pytest.mark.parametrize("path", [p for p in FILES if format_path(p) != "warehouse/warehouse.py"], ids=format_path)
def test_only_one_module_calls_to_regclass(path: Path) -> None:
    assert "to_regclass" not in path.read_text()


@pytest.mark.parametrize("path", [path for path in TESTS if path.name.startswith("test_")], ids=lambda path: path.stem)
def test_the_name_of_a_test_is_a_sentence_of_at_most_80_characters(path: Path) -> None:
    functions = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))
    assert [f.name for f in functions if f.name.startswith("test_") and len(f.name) > 80] == []


PATCHED_TIME = re.compile(r"setattr\([^()]*\b[A-Z_]*(SECONDS|TIMEOUT|PAUSE|INTERVAL|DELAY|PATIENCE)[A-Z_]*\b")


def test_no_test_patches_a_timeout_or_a_pause_they_are_parameters() -> None:
    patched = {path.name: PATCHED_TIME.findall(path.read_text()) for path in TESTS if path.name != Path(__file__).name}
    assert {name: found for name, found in patched.items() if found} == {}
