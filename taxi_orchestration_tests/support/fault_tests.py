"""The tests of every class of fault in docs/reliability.md, and the page that lists them.

Regenerate the page: .venv/bin/python -m taxi_orchestration_tests.support.fault_tests
"""

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby

from taxi_orchestration.settings import PROJECT_DIRECTORY

TESTS = "taxi_orchestration_tests"
PAGE = PROJECT_DIRECTORY / "docs" / "reliability-tests.md"

# For a test with more cases, the page gives only their number.
MAX_CASES = 24

HEAD = """# The tests behind what can be relied on

Each line is a test: its name as a sentence, and the cases that it runs with. The headings are those of
[reliability.md](reliability.md). The page is generated from the tests; a test fails if it is out of date.
"""

# The spelling of words whose capitals or apostrophes cannot be in the name of a test.
WORDS = {
    "copy": "COPY",
    "dagster": "Dagster",
    "dagsters": "Dagster's",
    "december": "December",
    "int96": "INT96",
    "mirrors": "mirror's",
    "nan": "NaN",
    "parquet": "Parquet",
    "python": "Python",
    "tlc": "TLC",
    "tlcs": "TLC's",
    "tls": "TLS",
    "ui": "UI",
    "url": "URL",
    "utf": "UTF",
}

# All tests of faults/, and the tests of a fault in other directories.
SECTIONS = {
    "The network": [
        "faults/test_network.py",
        "integration/test_backfill.py::test_an_unpublished_month_is_reported_and_fails_only_a_run_of_that_month_alone",
        "orchestration/test_runs.py::test_zones_and_code_lists_are_loaded_with_the_first_month_and_recorded_once",
        "unit/tlc/test_client.py::test_an_unknown_host_is_reported_soon_and_without_names_of_python_objects",
        "unit/tlc/test_client.py::test_an_unreachable_proxy_is_named",
        "unit/tlc/test_client.py::test_a_host_that_becomes_unreachable_is_retried_as_often_as_a_busy_one",
        "unit/tlc/test_client.py::test_a_retry_after_header_beyond_the_time_limit_ends_the_attempts_at_once",
        "unit/tlc/test_client.py::test_an_untrusted_certificate_is_a_permanent_failure",
        "unit/tlc/test_client.py::test_a_redirect_from_https_to_http_is_not_followed",
        "unit/tlc/test_client.py::test_a_file_without_a_content_length_is_refused_once_it_exceeds_the_limit",
        "unit/tlc/test_client.py::test_a_full_disk_leaves_no_file",
        "unit/tlc/test_client.py::test_an_interrupted_download_leaves_no_file",
        "integration/test_loading.py::test_a_disk_full_during_one_month_stops_no_other_month_and_the_error_names_it",
        "integration/test_status.py::test_a_host_that_does_not_answer_is_not_asked_for_every_month",
    ],
    "The file": [
        "faults/test_file.py",
        "unit/tlc/test_parquet.py::test_a_file_of_another_data_set_is_refused_and_the_error_names_that_data_set",
        "unit/tlc/test_parquet.py::test_an_int96_timestamp_that_would_be_lost_is_shown_as_it_is_in_the_file",
        "unit/tlc/test_parquet.py::test_a_month_in_any_encoding_and_compression_is_read_exactly",
        "unit/tlc/test_parquet.py::test_text_whose_encoding_changes_within_a_file_is_read_once",
        "unit/tlc/test_parquet.py::test_a_feature_that_pyarrow_does_not_support_is_not_reported_as_damage",
        "unit/tlc/test_parquet.py::test_the_error_for_a_mirrors_file_names_its_writer_and_what_to_change",
        "unit/tlc/test_parquet.py::test_the_error_for_the_tlcs_own_file_does_not_advise_to_rewrite_it",
        "unit/tlc/test_parquet.py::test_a_long_text_that_is_repeated_by_a_dictionary_is_refused_before_decoding",
        "unit/tlc/test_parquet.py::test_a_long_text_that_is_repeated_by_prefixes_is_refused_before_it_is_decoded",
        "unit/tlc/test_parquet.py::test_a_month_in_one_giant_row_group_is_read_in_bounded_memory",
        "unit/tlc/test_parquet.py::test_no_single_flipped_bit_in_the_pages_ever_changes_a_value",
        "unit/tlc/test_parquet.py::test_no_single_flipped_bit_in_the_footer_raises_anything_but_bad_file_error",
        "unit/tlc/test_parquet.py::test_fewer_rows_than_the_footer_declares_are_refused",
        "unit/tlc/test_zone_shapes.py::test_damaged_bytes_are_read_or_raise_bad_file_error_and_nothing_else",
        "unit/tlc/test_zone_shapes.py::test_a_zip_that_decompresses_to_too_much_is_refused",
        "unit/tlc/test_zone_shapes.py::test_invalid_zone_numbers_are_refused",
        "unit/report/test_pictures.py::test_without_shapes_there_is_a_reason_instead_of_a_map",
        "integration/test_report.py::test_the_report_of_an_empty_warehouse_says_what_to_do_and_can_be_materialized",
        "integration/test_loading.py::test_a_missing_or_invalid_file_of_shapes_leaves_the_shapes_as_they_were",
    ],
    "Processes": [
        "faults/test_process.py",
        "faults/test_model.py",
        "browser/test_ui.py::test_the_pages_of_the_ui_show_the_loaded_months_and_their_buttons_work",
        "integration/test_server.py::test_a_zombie_process_counts_as_ended",
        "integration/test_server.py::test_the_server_can_be_stopped_killed_and_started_if_orphans_are_never_reaped",
        "integration/test_server.py::test_after_kill_9_with_a_busy_session_the_server_starts_with_its_data",
        "integration/test_server.py::test_a_kill_9_during_initdb_does_not_prevent_the_next_start",
        "integration/test_server.py::test_after_a_kill_before_the_databases_exist_the_next_start_creates_them",
        "integration/test_server.py::test_a_stale_pid_file_with_the_pid_of_another_process_is_detected",
        "integration/test_server.py::test_a_server_whose_port_is_in_use_gets_a_new_port_and_keeps_it",
        "orchestration/test_alerts.py::test_a_failed_month_is_reported_once_with_reason_page_and_command_then_resolved",
        "orchestration/test_alerts.py::test_a_failed_mart_is_resolved_only_by_its_own_success",
        "orchestration/test_alerts.py::test_a_step_that_did_not_start_is_no_incident_and_resolves_none",
        "orchestration/test_alerts.py::test_a_message_that_could_not_be_sent_is_sent_by_a_later_tick",
        "orchestration/test_alerts.py::test_alerts_are_sent_even_if_the_warehouse_cannot_be_started",
        "integration/test_cli.py::test_taxi_commands_start_use_and_stop_the_embedded_server",
        "integration/test_cli.py::test_taxi_dev_prints_only_its_address_and_storage_and_cannot_run_twice",
        "integration/test_status.py::test_status_says_what_to_do_and_backfill_does_it",
    ],
    "The database": [
        "faults/test_database.py",
        "integration/test_months.py::test_a_load_waits_for_a_lock_of_another_session_and_then_names_its_holder",
        "integration/test_server.py::test_a_data_directory_that_was_moved_away_is_recreated_with_its_databases",
        "integration/test_dataset.py::test_a_schema_of_another_data_set_is_refused_before_anything_is_changed",
        "integration/test_sessions.py::test_defaults_of_the_database_change_no_row",
        "integration/test_sessions.py::test_a_default_that_the_pipeline_cannot_run_with_is_named_by_the_error",
        "integration/test_sessions.py::test_a_database_in_sql_ascii_gets_the_same_rows_as_any_other",
        "integration/test_sessions.py::test_connections_to_the_embedded_server_ignore_libpq_variables",
        "integration/test_sessions.py::test_the_whole_pipeline_on_the_embedded_server_ignores_libpq_variables",
        "integration/test_pooler.py::test_two_backfills_at_once_through_a_pooler_are_exact_and_leave_no_setting",
        "integration/test_pooler.py::test_psql_through_a_transaction_pooler_prints_how_to_set_the_search_path",
        "integration/test_pooler.py::test_a_pooler_that_refuses_pgoptions_is_an_error_that_names_pgoptions",
        "integration/test_pooler.py::test_dagsters_storage_behind_a_pooler_is_refused",
        "orchestration/test_views.py::test_the_job_creates_all_and_later_only_views_that_are_missing_or_changed",
        "orchestration/test_views.py::test_a_schema_of_version_0_1_is_upgraded_for_every_loaded_month",
        "integration/test_materializations.py::test_a_table_that_differs_from_its_model_is_refused_until_a_full_refresh",
    ],
    "Time": [
        "faults/test_time.py",
    ],
    "Concurrency": [
        "faults/test_concurrency.py",
        "integration/test_class.py::test_roles_that_many_sessions_change_at_once_are_all_created_and_all_dropped",
        "integration/test_server.py::test_eight_processes_that_start_the_server_at_once_get_one_server",
        "integration/test_loading.py::test_a_new_column_keeps_its_first_type_if_no_value_is_lost",
        "orchestration/test_students.py::test_students_in_one_instance_do_not_see_months_of_other_students",
        "orchestration/test_students.py::test_students_in_one_instance_wait_for_alert_on_and_repair_only_their_own",
        "integration/test_class.py::test_two_broken_students_do_not_affect_a_third",
        "integration/test_class.py::test_a_student_can_read_and_write_their_schema_and_no_other",
    ],
    "Access": [
        "faults/test_access.py",
        "integration/test_server.py::test_another_user_can_neither_read_nor_list_the_files_of_the_server",
        "integration/test_server.py::test_the_server_listens_on_loopback_only",
        "integration/test_server.py::test_a_wrong_password_no_password_and_that_of_another_home_are_refused",
        "integration/test_cli.py::test_the_printed_url_connects_and_the_read_only_url_cannot_write",
    ],
    "Environments": [
        "faults/test_error_messages.py",
        "unit/report/test_page.py::test_a_hostile_name_of_a_zone_is_escaped_everywhere",
    ],
    "Deployments": [
        "deploy/test_compose.py::test_months_are_exact_after_any_container_is_killed_during_a_run",
        "deploy/test_compose.py::test_no_secret_is_in_an_image_a_log_or_a_run_record",
        "deploy/test_compose.py::test_the_ui_refuses_requests_without_a_valid_password",
        "deploy/test_celery.py::test_a_backfill_is_exact_even_if_a_host_is_killed_while_it_runs",
    ],
}


def fault_tests_page(ids: Sequence[str]) -> str:
    """Return the page about those of the collected tests that SECTIONS names. `ids` are in the order of their files."""
    sections = {
        section: [id_ for test in tests for id_ in ids if test in (id_.partition("[")[0], id_.partition("::")[0])]
        for section, tests in SECTIONS.items()
    }
    return HEAD + "".join(f"\n## {section}\n{''.join(_render_tests(*tests))}" for section, tests in sections.items())


def collect_ids() -> list[str]:
    """Return the ids of the tests that SECTIONS names, with their cases, which a process collects in some seconds."""
    paths = [f"{TESTS}/{test}" for tests in SECTIONS.values() for test in tests]
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-p", "no:xdist", *paths]
    text = subprocess.run(command, cwd=PROJECT_DIRECTORY, capture_output=True, text=True, check=True).stdout
    return [line.removeprefix(f"{TESTS}/") for line in text.splitlines() if "::" in line]


def _render_tests(*tests: str) -> Iterator[str]:
    cases: dict[str, list[str]] = {}
    for test in tests:
        name, _, case = test.partition("[")
        cases.setdefault(name, []).append(f"`{case.removesuffix(']')}`")
    for file, names in groupby(cases, key=lambda name: name.partition("::")[0]):
        yield f"\n`{file}`\n\n"
        for name in names:
            sentence = name.partition("::test_")[2].replace("_", " ").capitalize()
            sentence = re.sub(r"\w+", lambda word: WORDS.get(word[0].lower(), word[0]), sentence)
            shown = ", ".join(cases[name]) if len(cases[name]) <= MAX_CASES else f"{len(cases[name])} cases"
            yield f"- {sentence}{'' if shown == '``' else f': {shown}'}\n"


if __name__ == "__main__":
    PAGE.write_text(fault_tests_page(collect_ids()))
