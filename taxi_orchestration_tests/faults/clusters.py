"""Throw-away PostgreSQL servers with settings of a test's own: another version, TLS, a disk that is too small."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from taxi_orchestration.settings import PostgresTarget
from taxi_orchestration.warehouse import binaries, postmaster
from taxi_orchestration.warehouse.binaries import Account

# The oldest that Debian's packages have put there; unlike the wheel's it has TLS.
_VERSIONS = [path for path in Path("/usr/lib/postgresql").glob("[1-9][0-9]") if (path / "bin" / "initdb").exists()]
DEBIAN = min(_VERSIONS, key=lambda path: int(path.name)) / "bin" if _VERSIONS else None
SUPERUSER, PASSWORD = "postgres", "owner of the cluster"


def embedded_programs() -> Path:
    """The programs of the embedded server, where the account of the clusters can run them."""
    return binaries.program_directory(account())


def account() -> Account | None:
    """Who runs the clusters: PostgreSQL refuses root."""
    return binaries.account_for(Path("/")) if os.geteuid() == 0 else None


@contextmanager
def running_cluster(
    programs: Path | None = None,
    settings: Mapping[str, str] | None = None,
    files: Mapping[str, bytes] | None = None,
    directory: Path | None = None,
    hba: str = "host all all 127.0.0.1/32 scram-sha-256\n",
) -> Iterator[PostgresTarget]:
    """A server on loopback for the time of the block. `files` are put beside its data, readable by it alone."""
    programs = programs or embedded_programs()
    who = account()
    directory = directory or Path(tempfile.mkdtemp(prefix="taxi-cluster-"))
    data, port = directory / "data", postmaster.free_port()
    try:
        (directory / "password").write_text(PASSWORD)
        for name, content in (files or {}).items():
            (directory / name).write_bytes(content)
        for path in (directory, *directory.iterdir()):
            path.chmod(0o700 if path.is_dir() else 0o600)
            if who:
                os.chown(path, who.uid, who.gid)
        made = binaries.run(
            [programs / "initdb", "-D", data, "-U", SUPERUSER, "--pwfile", directory / "password",
             "-A", "scram-sha-256", "--no-sync", "-E", "UTF8", "--locale", "C"],
            who,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        values = {"listen_addresses": "127.0.0.1", "port": str(port), "unix_socket_directories": "", "fsync": "off"}
        with (data / "postgresql.conf").open("a") as file:
            for name, value in {**values, **(settings or {})}.items():
                file.write(f"{name} = '{value}'\n")
        (data / "pg_hba.conf").write_text(hba)
        started = binaries.run([programs / "pg_ctl", "-D", data, "-w", "-l", directory / "log", "start"], who)
        assert started.returncode == 0, started.stdout + started.stderr
        yield PostgresTarget("127.0.0.1", port, SUPERUSER, PASSWORD, "postgres", "prefer")
    finally:
        binaries.run([programs / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"], who)
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system of so many megabytes."""
    directory = Path(tempfile.mkdtemp(prefix="taxi-disk-"))
    directory.chmod(0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", directory], check=True)
    try:
        who = account()
        if who:
            os.chown(directory, who.uid, who.gid)
        yield directory
    finally:
        subprocess.run(["umount", "-l", directory], check=True)
        directory.rmdir()


def can_mount() -> bool:
    """Whether this account may mount a file system, which not even root may in every container."""
    if os.geteuid() != 0:
        return False
    try:
        with small_disk(1):
            return True
    except (subprocess.CalledProcessError, FileNotFoundError):
        return False
