"""Temporary PostgreSQL servers with special settings: another version, TLS, a disk that is too small."""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from taxi_orchestration.postgres import binaries, postmaster
from taxi_orchestration.postgres.binaries import Account
from taxi_orchestration.settings import PostgresTarget

# The oldest version that Debian's packages installed. Unlike the server of the wheel, it supports TLS.
_VERSIONS = [path for path in Path("/usr/lib/postgresql").glob("[1-9][0-9]") if (path / "bin" / "initdb").exists()]
DEBIAN = min(_VERSIONS, key=lambda path: int(path.name)) / "bin" if _VERSIONS else None
SUPERUSER, PASSWORD = "postgres", "owner of the cluster"


def embedded_programs() -> Path:
    """Return the directory from which the account of the clusters can run the embedded server's programs."""
    return binaries.program_directory(account())


def account() -> Account | None:
    """Return the account that runs the clusters: PostgreSQL refuses root."""
    return binaries.account_for(Path("/")) if os.geteuid() == 0 else None


@contextmanager
def running_cluster(
    programs: Path | None = None,
    settings: Mapping[str, str] | None = None,
    files: Mapping[str, bytes] | None = None,
    hba: str = "host all all 127.0.0.1/32 scram-sha-256\n",
) -> Iterator[PostgresTarget]:
    """Run a server on loopback for the duration of the block.

    `files` are stored beside the data directory, and only the server can read them.
    """
    programs = programs or embedded_programs()
    owner = account()
    directory = Path(tempfile.mkdtemp(prefix="taxi-cluster-"))
    data, port = directory / "data", postmaster.free_port()
    try:
        (directory / "password").write_text(PASSWORD)
        for name, content in (files or {}).items():
            (directory / name).write_bytes(content)
        for path in (directory, *directory.iterdir()):
            path.chmod(0o700 if path.is_dir() else 0o600)
            if owner:
                os.chown(path, owner.uid, owner.gid)
        initialized = binaries.run(
            [programs / "initdb", "-D", data, "-U", SUPERUSER, "--pwfile", directory / "password",
             "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale", "C"],
            owner,
        )  # fmt: skip
        assert initialized.returncode == 0, initialized.stderr
        values = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": "", "fsync": "off"}
        with (data / "postgresql.conf").open("a") as file:
            for name, value in {**values, **(settings or {})}.items():
                file.write(f"{name} = '{value}'\n")
        (data / "pg_hba.conf").write_text(hba)
        started = binaries.run([programs / "pg_ctl", "-D", data, "-w", "-l", directory / "log", "start"], owner)
        assert started.returncode == 0, started.stdout + started.stderr
        yield PostgresTarget("127.0.0.1", port, SUPERUSER, PASSWORD, "postgres", "prefer")
    finally:
        binaries.run([programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"], owner)
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def running_pooler(server: PostgresTarget, settings: Mapping[str, str]) -> Iterator[PostgresTarget]:
    """Run PgBouncer in front of every database of a server for the duration of the block.

    Apart from `settings`, PgBouncer has its defaults.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    owner = account()
    directory, port = Path(tempfile.mkdtemp(prefix="taxi-pooler-")), postmaster.free_port()
    values = {"listen_addr": "127.0.0.1", "listen_port": str(port), "unix_socket_dir": "", "logfile": directory / "log"}
    values |= {"auth_type": "scram-sha-256", "auth_file": directory / "users", **settings}
    lines = [f"{name} = {value}\n" for name, value in values.items()]
    lines = ["[databases]\n", f"* = host={server.host} port={server.port}\n", "[pgbouncer]\n", *lines]
    (directory / "pgbouncer.ini").write_text("".join(lines))
    (directory / "users").write_text(f'"{server.user}" "{server.password}"\n')
    for path in (directory, *directory.iterdir()):
        path.chmod(0o700 if path.is_dir() else 0o600)
        if owner:
            os.chown(path, owner.uid, owner.gid)
    pooler = subprocess.Popen(
        [program, directory / "pgbouncer.ini"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        user=owner.uid if owner else None,
        group=owner.gid if owner else None,
        extra_groups=[] if owner else None,
    )
    try:
        deadline = time.monotonic() + 30
        while postmaster.is_free(port):
            assert pooler.poll() is None, (directory / "log").read_text()
            assert time.monotonic() < deadline, (directory / "log").read_text()
            time.sleep(0.02)
        # Like a user's own server: the connection has no libpq parameters apart from its address.
        yield replace(server, port=port, parameters={})
    finally:
        pooler.kill()
        pooler.wait()
        shutil.rmtree(directory)


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """Mount a file system of `megabytes` MB for the duration of the block."""
    directory = Path(tempfile.mkdtemp(prefix="taxi-disk-"))
    directory.chmod(0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", directory], check=True)
    try:
        owner = account()
        if owner:
            os.chown(directory, owner.uid, owner.gid)
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)
        directory.rmdir()


def can_mount() -> bool:
    """Return whether this account may mount a file system. In some containers even root may not."""
    if os.geteuid() != 0:
        return False
    try:
        with small_disk(1):
            return True
    except (subprocess.CalledProcessError, FileNotFoundError):
        return False
