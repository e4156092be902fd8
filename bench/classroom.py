"""A class in one instance. Up to twelve load three months at once; one has broken code, one a broken database."""

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import psutil
import psycopg
import requests

from bench.plots import line_plot
from bench.results import Goal, Section
from bench.workplace import MONTH_ROWS, Workplace, workplace
from taxi_orchestration.cli.programs import program_command
from taxi_orchestration.postgres.postmaster import free_port
from taxi_orchestration.settings import PROJECT_DIRECTORY
from taxi_orchestration_tests.support.dagster_dev import Ui
from taxi_orchestration_tests.support.waiting import until

FIRST_MONTH, MONTHS = date(2024, 1, 1), 3
# The last two students of the class.
BROKEN_CODE, BROKEN_DATABASE = "xena", "yuri"

_LOCATIONS = """
    { workspaceOrError { ... on Workspace { locationEntries {
        name loadStatus locationOrLoadError { __typename ... on PythonError { message } }
    } } } }
"""


def run(quick: bool) -> Section:
    """Run the class as a teacher does: `taxi class add`, `serve` and `status`, and backfills from the UI, in waves."""
    # The student with the broken database joins the last wave: twelve at once, of whom eleven must be exact.
    sizes = [1] if quick else [1, 3, 11]
    names = iter(f"student{number}" for number in range(1, 100))
    waves = [[next(names) for _ in range(size)] for size in sizes]
    whole = [name for wave in waves for name in wave]
    students = [*whole, BROKEN_CODE, BROKEN_DATABASE]
    with workplace() as place, _run_webhook() as (webhook, messages):
        months = place.publish_range(FIRST_MONTH, MONTHS)
        _make_class(place, students, webhook)
        began = time.perf_counter()
        with _serve_class(place) as (ui, supervisor):
            until(lambda: _read_served_students(ui) == {*whole, BROKEN_DATABASE}, 600, 1)
            to_serve, idle = time.perf_counter() - began, _measure_memory(supervisor)
            waves[-1].append(BROKEN_DATABASE)
            measured = [_load_at_once(place, ui, supervisor, wave, months) for wave in waves]
            # The sensor `alerts` runs every 30 s.
            until(lambda: BROKEN_DATABASE in messages, 120, 1)
            status = _read_status(place)
    # The figures do not contain the reason of a fault, so it is printed.
    for name in whole:
        if name in messages or status[name]["wrong"]:
            print(name, status[name], messages.get(name), file=sys.stderr)
    exact = [name for name in whole if _is_exact(status[name], MONTHS * MONTH_ROWS)]
    expected = {BROKEN_CODE: "No module named", BROKEN_DATABASE: "database:"}
    named = [name for name, words in expected.items() if words in " ".join(status[name]["wrong"])]
    strays = {name: titles for name, titles in messages.items() if name != BROKEN_DATABASE}
    code_servers = sum(memory for name, memory in idle.items() if name.startswith("code server"))
    each = code_servers / len(students)
    most = sizes[-1]
    return Section(
        "A class",
        [
            Goal(f"students with three exact months, of {len(students)}", len(exact), "", at_least=len(whole)),
            Goal("students whose fault `taxi class status` names", len(named), "", at_least=2),
            Goal("students who got an alert without an incident", len(strays), "", at_most=0),
            Goal("memory (PSS) of one student's code server", each, "MiB", at_most=300),
            Goal("start of all code servers, per student", to_serve / len(students), "s", at_most=10),
            Goal(
                f"{most} students at once, launch to exact months, per student",
                measured[-1][0] / most,
                "s",
                at_most=45,
            ),
        ],
        ["students at once", *map(str, sizes)],
        [
            ["launch to success, s", *(f"{seconds:.0f}" for seconds, _, _ in measured)],
            ["peak memory of all processes, MiB (PSS)", *(f"{memory:.0f}" for _, memory, _ in measured)],
            ["peak connections to PostgreSQL", *(f"{connections}" for _, _, connections in measured)],
        ],
        {
            "classroom.png": line_plot(
                {"class": {size: seconds for size, (seconds, _, _) in zip(sizes, measured, strict=True)}},
                "students who load three months at once",
                "seconds, launch to success",
            )
        },
        f"{len(students)} students, three months of {MONTH_ROWS:,} rows each, launched from the UI. All code servers "
        f"were ready after {to_serve:.0f} s (each parses the dbt project once). Idle, MiB (PSS): "
        + ", ".join(f"{name} {memory:.0f}" for name, memory in sorted(_sum_by_kind(idle).items()))
        + ". dagster.yaml allows four runs at a time.",
        {"code_server": f"{each:.0f} MiB", "class": f"{measured[-1][0]:.0f} s", "class_served": f"{to_serve:.0f} s"},
    )


def _load_at_once(
    place: Workplace, ui: Ui, supervisor: psutil.Process, students: list[str], months: list[date]
) -> tuple[float, float, int]:
    """Launch a backfill for each student; return the seconds until all end, and the peak memory and connections."""
    began, peak, connections = time.perf_counter(), 0.0, 0
    backfills = {name: _launch_backfill(ui, name, months) for name in students}
    while unfinished := [name for name, id_ in backfills.items() if not ui.find_ended_backfill(id_)]:
        peak = max(peak, sum(_measure_memory(supervisor).values()))
        connections = max(connections, _count_connections(place))
        if time.perf_counter() - began > 900:
            raise RuntimeError(f"the backfills of {', '.join(unfinished)} did not end in a quarter of an hour")
        time.sleep(2)
    return time.perf_counter() - began, peak, connections


def _make_class(place: Workplace, students: list[str], webhook: str) -> None:
    others = [name for name in students if name != BROKEN_CODE]
    place.taxi("class", "add", *others)
    checkout = place.directory / "checkout"
    for folder in ("taxi_orchestration", "dbt_project"):
        shutil.copytree(PROJECT_DIRECTORY / folder, checkout / folder, ignore=shutil.ignore_patterns("__pycache__"))
    with (checkout / "taxi_orchestration" / "definitions.py").open("a") as file:
        file.write("\nimport no_such_module\n")
    place.taxi("class", "add", BROKEN_CODE, "--code", str(checkout))
    for name in students:
        file_of_student = place.directory / "home" / "class" / name / "settings.env"
        text = file_of_student.read_text() + f"TAXI_ALERT_URLS=json://{webhook}/{name}\n"
        if name == BROKEN_DATABASE:
            lines = [line for line in text.splitlines() if not line.startswith("PG_PASSWORD")]
            text = "\n".join([*lines, "PG_PASSWORD=wrong", ""])
        file_of_student.write_text(text)


@contextmanager
def _run_webhook() -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Run a service that stores the received messages by student, for the duration of the block."""
    messages: dict[str, list[str]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            messages.setdefault(self.path.strip("/"), []).append(f"{message['title']}: {message['message']}")
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}", messages
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _serve_class(place: Workplace) -> Iterator[tuple[Ui, psutil.Process]]:
    port = free_port()
    environment = {**place.environment, "PYTHONPATH": str(PROJECT_DIRECTORY)}
    process = subprocess.Popen(program_command("taxi", "class", "serve", "--port", str(port)), env=environment)
    try:
        yield Ui(port), psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _read_served_students(ui: Ui) -> set[str]:
    """Return the students whose code is served."""
    try:
        entries = ui.execute_graphql(_LOCATIONS)["workspaceOrError"]["locationEntries"]
    except (requests.RequestException, ValueError):
        return set()
    return {e["name"] for e in entries if (e["locationOrLoadError"] or {}).get("__typename") == "RepositoryLocation"}


def _launch_backfill(ui: Ui, student: str, months: list[date]) -> str:
    """Launch a backfill of all partitioned assets of a student, as the button on raw_trips does, and return its id."""
    own = [key for key in ui.list_assets() if key["path"][0] == student]
    return ui.launch_backfill(own, [f"{month:%Y-%m}" for month in months])


def _read_status(place: Workplace) -> dict[str, Any]:
    command = program_command("taxi", "class", "status", "--json")
    done = subprocess.run(command, env=place.environment, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise RuntimeError(f"taxi class status failed:\n{done.stderr}")
    return {student["student"]: student for student in json.loads(done.stdout)}


def _is_exact(student: Mapping[str, Any], rows: int) -> bool:
    facts = student["fact_rows"] + student["rejected_rows"]
    is_whole = student["rows"] == student["raw_rows"] == facts == rows
    return is_whole and student["completed"] == MONTHS and not student["wrong"]


def _measure_memory(supervisor: psutil.Process) -> dict[str, float]:
    """Return the MiB of every program of the class, with its descendants. Shared pages count in part (PSS)."""
    memory: dict[str, float] = {}
    for number, program in enumerate(supervisor.children()):
        try:
            arguments = program.cmdline()
            processes = [program, *program.children(recursive=True)]
            used = sum(process.memory_full_info().pss for process in processes) / 2**20
        except psutil.Error:
            continue
        name = next((kind for kind in ("code-server", "webserver", "daemon") if kind in " ".join(arguments)), "other")
        memory[f"{name.replace('-', ' ')} {number}"] = used
    return memory


def _count_connections(place: Workplace) -> int:
    with psycopg.connect(place.target.url()) as connection:
        query = "select count(*) from pg_stat_activity where backend_type = 'client backend'"
        ((count,),) = connection.execute(query).fetchall()
        return int(count)


def _sum_by_kind(memory: Mapping[str, float]) -> dict[str, float]:
    groups: dict[str, float] = {}
    for name, used in memory.items():
        kind = name.rpartition(" ")[0]
        groups[kind] = groups.get(kind, 0) + used
    return groups
