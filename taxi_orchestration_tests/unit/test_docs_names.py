"""Every name in the documentation exists: files, links, commands, flags, variables, tables, columns and terms.

CHANGELOG.md is not checked, because it names things that were removed.
"""

import ast
import re
import subprocess
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import click
import dagster
import pytest
import yaml
from dbt.cli.main import cli as dbt

from taxi_orchestration.cli.commands import class_, main
from taxi_orchestration.settings import PROJECT_DIRECTORY
from taxi_orchestration_tests.support.pages import MARKS, PAGES, TESTED_BY, Page, pages

TESTS = PROJECT_DIRECTORY / "taxi_orchestration_tests"
# The directories to which a path in a page may be relative.
ROOTS = [
    PROJECT_DIRECTORY,
    PROJECT_DIRECTORY / "docs",
    PROJECT_DIRECTORY / "taxi_orchestration",
    PROJECT_DIRECTORY / "dbt_project",
    TESTS,
]
# Files that a command creates or a reader writes. They are not in a clone.
GENERATED = {".taxi", ".taxi/report.html", ".taxi/class/workspace.yaml", ".env", ".venv"}
# Names of other software: Airflow, PostgreSQL, dbt and Dagster.
FOREIGN = set(
    re.findall(
        r"\w+",
        """
        airflow_ada airport_fee all_done all_done_min_one_success all_done_setup_success all_failed all_skipped
        all_success any_deps_match create_cron_data_intervals dagster_ada data_interval_end data_interval_start
        data_version_changed dbt_ada default_tablespace default_transaction_read_only get_server
        idle_in_transaction_session_timeout lock_timeout max_active_runs none_failed none_failed_min_one_success
        none_skipped one_done one_failed one_success pg_ctl pool_mode retry_delay search_path statement_timeout
        to_sql transaction_timeout upstream_failed
        """,
    )
)
# Flags of Airflow, `dagster dev`, `dagster-webserver`, Docker, pg_dump and pip.
FOREIGN_FLAGS = {
    *("--from-date", "--to-date", "--port", "--read-only", "--network"),
    *("--detach", "--rm", "--no-deps", "--username", "--host", "--hostname"),
    *("--constraint", "--editable"),
}

# The terms of the Airflow course. Each is a heading in docs/from-airflow.md.
TERMS = """
    orchestration | pipeline | DAG | task | dependency (`a >> b`) | retry | idempotency | task instance | operator |
    TaskFlow | `airflow.sdk` | scheduler | api-server | dag-processor | worker | triggerer | metadata database |
    upstream and `upstream_failed` | the UI's views: grid | the UI's views: graph | the UI's views: logs |
    the UI's views: rendered templates | schedule interval | cron | presets | logical date (`ds`) | data interval |
    catchup | manual trigger | clear | sensor (poke, reschedule) | dataset-driven scheduling | connection | hook |
    XCom |
    AIRFLOW_STUDENT and the schema of one's own | backfill (`backfill create`) | `max_active_runs` |
    `params` against the date | `--vars` and the window | ExternalTaskSensor | TriggerDagRunOperator | pools |
    SLA and missed windows | `airflow tasks test` | full overwrite against partition-scoped loads |
    `to_sql` against COPY
"""
TRIGGER_RULES = """
    all_success all_failed all_done one_success one_failed none_failed none_skipped always none_failed_min_one_success
"""

MAKE_COMMANDS = {
    ("backfill", "FROM=2024-01", "TO=2024-03"): '.venv/bin/taxi backfill "2024-01" "2024-03"',
    ("backfill", "FROM=2024-01"): '.venv/bin/taxi backfill "2024-01"',
    ("dev",): ".venv/bin/taxi dev",
    ("dev", "PORT=3001"): ".venv/bin/taxi dev --port 3001",
    ("report",): ".venv/bin/taxi report",
    ("test",): ".venv/bin/pytest",
    ("test-fast",): "taxi_orchestration_tests/unit",
    ("check-docs",): "CHECK_DOCS=all .venv/bin/pytest",
    ("lint",): ".venv/bin/ruff check .",
    ("screenshots",): ".venv/bin/python -m taxi_orchestration_tests.browser.screenshots",
    ("bench",): ".venv/bin/python -m bench",
    ("bare-machine",): "taxi_orchestration_tests/bare_machine.sh",
    ("clean",): ".venv/bin/taxi stop",
    ("clean-data",): ".venv/bin/taxi remove-data",
}

every_page = pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)


def find_commands(page: Page) -> str:
    """Return the commands in the code blocks and in the sentences of a page."""
    blocks = [block.text for block in page.blocks() if block.language == "bash" and "airflow" not in block.marks]
    return "\n".join([*blocks, *page.code()])


@cache
def find_known_names() -> frozenset[str]:
    """Return every name of the code: Python names, settings, and nodes, columns, macros, variables and tests of dbt."""
    names: set[str] = set()
    for path in (PROJECT_DIRECTORY / "taxi_orchestration").rglob("*.py"):
        for node in ast.walk(ast.parse(read(path))):
            match node:
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.Name(id=name) | ast.arg(arg=name):
                    names.add(name)
                case ast.Attribute(attr=name):
                    names.add(name)
                case ast.Constant(value=str(text)) if text.isidentifier():
                    names |= {text, text.lower()}
    for path in TESTS.rglob("*.py"):
        names |= {node.name for node in ast.walk(ast.parse(read(path))) if isinstance(node, ast.FunctionDef)}
    dbt_project = PROJECT_DIRECTORY / "dbt_project"
    names |= {path.stem for path in [*dbt_project.rglob("*.sql"), *dbt_project.rglob("*.csv")]}
    names |= set(re.findall(r"{% (?:macro|test|materialization) (\w+)", "".join(map(read, dbt_project.rglob("*.sql")))))
    deploy = PROJECT_DIRECTORY / "deploy"
    for path in [*dbt_project.rglob("*.yml"), PROJECT_DIRECTORY / "dagster.yaml", *deploy.rglob("*.yaml")]:
        names |= set(find_words(yaml.safe_load(read(path))))
    names |= {str(name) for name in dir(dagster)} | {path.name for path in PROJECT_DIRECTORY.iterdir()}
    names |= set(re.findall(r"\w+", read(PROJECT_DIRECTORY / "pyproject.toml")))
    return frozenset(names)


def find_words(value: object) -> list[str]:
    """Return every key, and every value that is one word, of a YAML document."""
    match value:
        case dict():
            return [word for key, each in value.items() for word in (str(key), *find_words(each))]
        case list():
            return [word for each in value for word in find_words(each)]
        case str() if re.fullmatch(r"\w+", value):
            return [value]
    return []


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_every_page_of_the_documentation_is_checked() -> None:
    existing = {str(path.relative_to(PROJECT_DIRECTORY)) for path in (PROJECT_DIRECTORY / "docs").rglob("*.md")}
    assert existing <= set(PAGES)


@every_page
def test_every_block_is_run_or_has_a_known_mark(page: Page) -> None:
    blocks = list(page.blocks())
    for block, before in zip(blocks, [None, *blocks], strict=False):
        unknown = [mark for mark in block.marks if mark not in MARKS and not mark.startswith(TESTED_BY)]
        assert not unknown, f"{block.place}: unknown mark {unknown[0]}"
        if block.language == "text":
            assert before is not None, f"{block.place}: an output must follow a command"
            assert before.language == "bash", f"{block.place}: an output must follow a command"
        else:
            assert block.language in ("bash", "mermaid") or block.test, f"{block.place}: no test runs {block.language}"
        if block.test:
            file, name = block.test.split("::")
            functions = {node.name for node in ast.parse(read(TESTS / file)).body if isinstance(node, ast.FunctionDef)}
            assert name in functions, f"{block.place}: there is no test {block.test}"


@every_page
def test_every_link_has_an_existing_target(page: Page) -> None:
    broken = []
    for link in page.links():
        if link.startswith(("http:", "https:")):
            continue
        path, _, anchor = unquote(link).partition("#")
        target = (page.path.parent / path).resolve() if path else page.path
        if not target.exists():
            broken.append(link)
        elif anchor and target.suffix == ".md":
            name = str(target.relative_to(PROJECT_DIRECTORY))
            if anchor not in Page(name).anchors():
                broken.append(link)
    assert broken == []


def test_every_picture_is_small_and_shown_on_a_page() -> None:
    pictures = set((PROJECT_DIRECTORY / "docs" / "images").glob("*.png"))
    shown = {(page.path.parent / unquote(link)).resolve() for page in pages() for link in page.links()}
    assert pictures - shown == set()
    assert {path.name: path.stat().st_size for path in pictures if path.stat().st_size > 100_000} == {}


@every_page
def test_every_file_that_a_page_names_exists(page: Page) -> None:
    pattern = r"[\w.\-]+(?:/[\w.\-]+)*(?:/|\.(?:py|sql|yml|yaml|md|toml|csv|txt|sh|html|png))"
    names = {code for code in page.code() if re.fullmatch(pattern, code)} - GENERATED
    assert {name for name in names if not any((root / name).exists() for root in ROOTS)} == set()


@every_page
def test_every_command_and_flag_of_taxi_and_target_of_make_exists(page: Page) -> None:
    text = find_commands(page)
    for name, rest in re.findall(r"(?:^|/)taxi ([a-z][a-z-]*)([^\n;|&`]*)", text, re.MULTILINE):
        command = main.commands.get(name)
        assert command, f"taxi {name}"
        if isinstance(command, click.Group) and rest.strip():
            command = command.commands[rest.split()[0]]
        if not command.context_settings.get("ignore_unknown_options"):
            flags = {flag for option in command.params for flag in option.opts} | {"--help", "-h"}
            assert set(re.findall(r"(?<=\s)--[a-z-]+(?=\s|$)", rest)) <= flags, f"taxi {name}{rest}"
    targets = set(re.findall(r"^([a-z-]+):", read(PROJECT_DIRECTORY / "Makefile"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z.][\w./-]*)", text, re.MULTILINE)) <= targets | {".venv/.installed-dev"}


@every_page
def test_every_flag_in_a_sentence_belongs_to_a_command(page: Page) -> None:
    # Flags in code blocks need no check, because tests run the blocks.
    own_commands = [*main.commands.values(), *class_.commands.values()]
    flags = {flag for command in own_commands for option in command.params for flag in option.opts}
    flags |= {flag for command in dbt.commands.values() for option in command.params for flag in option.opts}
    flags |= set(re.findall(r'"(--[a-z-]+)"', read(TESTS / "faults" / "soak.py")))
    block_text = " ".join(block.text for each in pages() for block in each.blocks())
    named = {flag for code in page.code() for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]+", code)}
    assert {flag for flag in named - flags - FOREIGN_FLAGS if flag not in block_text} == set()


@every_page
def test_every_variable_of_a_page_is_read_by_the_code(page: Page) -> None:
    named = set(re.findall(r"\b((?:PG|TAXI|TLC|DAGSTER)_[A-Z_]+)\b", read(page.path)))
    example = set(re.findall(r"^#([A-Z_]+)=", read(PROJECT_DIRECTORY / ".env.example"), re.MULTILINE))
    # DAGSTER_HOME belongs to Dagster. A name that ends in _ stands for several variables.
    assert {name for name in named if not name.endswith("_")} <= example | {"DAGSTER_HOME"} | find_known_names()


@every_page
def test_every_table_column_and_other_name_exists_in_the_code(page: Page) -> None:
    named = {code for code in page.code() if re.fullmatch(r"[a-z]+(?:_[a-z0-9]+)+", code)}
    assert named - find_known_names() - FOREIGN - find_created_names(page) == set()


@pytest.mark.parametrize("name", ["fct_trip", "tips_amount", "int_daily_zone_activity"])
def test_a_name_that_is_not_in_the_code_is_not_found(name: str) -> None:
    assert name not in find_known_names()


def find_created_names(page: Page) -> set[str]:
    """Return the names that the commands of a page create for its reader: models, schemas, roles."""
    return set(re.findall(r"\w+", " ".join(block.text for block in page.blocks())))


def test_every_airflow_term_has_a_command_to_run_and_its_output() -> None:
    text = read(PROJECT_DIRECTORY / "docs" / "from-airflow.md")
    sections = {part.split("\n")[0].lower(): part for part in re.split(r"^### ", text, flags=re.MULTILINE)[1:]}
    terms = [" ".join(term.split()).lower() for term in TERMS.split("|")]
    assert [term for term in terms if term not in sections] == []
    for term in terms:
        assert re.search(r"^```bash.*?^```\n\n```text\n.*?^```", sections[term], re.DOTALL | re.MULTILINE), term
    rules = text.split("## Trigger rules and branches")[1].split("\n## ")[0]
    assert [rule for rule in TRIGGER_RULES.split() if f"`{rule}`" not in rules] == []
    assert [term for term in ("{{ ds }}", "@task.branch", "deferrable") if term not in text] == []


def test_the_readme_has_at_most_120_lines() -> None:
    assert len(read(PROJECT_DIRECTORY / "README.md").splitlines()) <= 120


@pytest.mark.parametrize(("arguments", "runs"), MAKE_COMMANDS.items(), ids=str)
def test_make_targets_run_what_the_pages_say(arguments: tuple[str, ...], runs: str) -> None:
    done = subprocess.run(
        ["make", "--dry-run", *arguments], cwd=PROJECT_DIRECTORY, capture_output=True, text=True, check=True
    )
    assert runs in done.stdout


def test_make_help_lists_every_target_for_users() -> None:
    done = subprocess.run(["make", "help"], cwd=PROJECT_DIRECTORY, capture_output=True, text=True, check=True)
    makefile = read(PROJECT_DIRECTORY / "Makefile").replace("\\\n", " ")
    (phony,) = re.findall(r"^\.PHONY: (.*)", makefile, re.MULTILINE)
    named = {word for line in done.stdout.splitlines() for word in line[:40].split()}
    assert set(phony.split()) - named == {"help", "no-dotenv"}


def test_make_backfill_without_months_says_how_to_give_them() -> None:
    # make must treat the environment as up to date, so that only the recipe of backfill runs.
    options = ["--assume-old=.venv/.installed"]
    done = subprocess.run(["make", *options, "backfill"], cwd=PROJECT_DIRECTORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert "make backfill FROM=2024-01 TO=2024-03" in done.stdout


def test_make_clean_keeps_the_data() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "clean"], cwd=PROJECT_DIRECTORY, capture_output=True, text=True, check=True
    )
    assert ".taxi" not in done.stdout
