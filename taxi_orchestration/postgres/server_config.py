"""The configuration of the embedded PostgreSQL: bulk loads on a laptop that may be switched off at any moment."""

import os

_MIB = 1024 * 1024

HBA = """\
# Written by taxi at every start of the server.
host all all 127.0.0.1/32 scram-sha-256
"""


def render(port: int, cluster_name: str) -> str:
    """Return the text of taxi.conf, which postgresql.conf includes and every start writes again.

    ALTER SYSTEM writes a user's own settings into postgresql.auto.conf, which wins over this file.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MIB
    return f"""\
# Written by taxi at every start of the server: changes here are lost, those made by ALTER SYSTEM are kept.
cluster_name = '{cluster_name}'

listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = ''
# A class of twelve that loads at once has 35, almost all of them to Dagster's storage.
max_connections = 200
password_encryption = 'scram-sha-256'

# No committed transaction is lost in a power cut.
fsync = on
full_page_writes = on
synchronous_commit = on

# Nobody replicates from here; minimal lets COPY into a table made in the same transaction skip the WAL.
wal_level = minimal
max_wal_senders = 0
# The first reader of new rows sets hint bits, which checksums log as page images: compressing those took as long as all
# of dbt's work (36 months: 36 s of CPU with pglz, 21 s without).
wal_compression = off
# New pages below this size go to the WAL and are not synced on their own: the first reader would log them anyway.
wal_skip_threshold = '64MB'
max_wal_size = '2GB'
min_wal_size = '256MB'
checkpoint_timeout = '15min'
checkpoint_completion_target = 0.9

# {memory} MiB of memory. COPY and large scans go through small rings of buffers, so the rest is left to the page cache.
shared_buffers = '{_clamp(memory // 8, 128, 1024)}MB'
work_mem = '{_clamp(memory // 256, 16, 64)}MB'
maintenance_work_mem = '{_clamp(memory // 32, 64, 512)}MB'
effective_cache_size = '{max(memory // 2, 512)}MB'
jit = off
# One worker for each further core.
max_parallel_workers_per_gather = {_clamp((os.cpu_count() or 1) - 1, 1, 4)}
# Most reads hit the page cache, where I/O workers only cost.
io_method = sync
# Parallel hash tables are in /dev/shm, of which a container has 64 MB.
enable_parallel_hash = off

timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'

# One file for each day of the week, truncated each week. No statements: they may hold secrets or megabytes.
logging_collector = on
log_directory = 'log'
log_filename = 'postgresql-%a.log'
log_file_mode = 0600
log_rotation_age = '1d'
log_rotation_size = 0
log_truncate_on_rotation = on
log_min_messages = warning
log_min_error_statement = panic
log_checkpoints = off
log_autovacuum_min_duration = -1
"""


def _clamp(value: int, least: int, most: int) -> int:
    return max(least, min(value, most))
