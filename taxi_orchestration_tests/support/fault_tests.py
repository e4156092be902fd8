"""The tests of every class of fault in docs/reliability.md, and the page that lists them.

Regenerate the page: .venv/bin/python -m taxi_orchestration_tests.support.fault_tests
"""

import re
import subprocess
import sys
from collections.abc import Iterator
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
    "dagsters": "Dagster's",
    "mirrors": "mirror's",
    "nan": "NaN",
    "tlc": "TLC",
    "tlcs": "TLC's",
    "tls": "TLS",
    "ui": "UI",
    "writers": "writer's",
}

# All tests of faults/, and the tests of a fault in other directories.
SECTIONS = {
    "The network": [
        "faults/test_network.py",
        "integration/test_backfill.py::test_an_unpublished_month_is_shown_and_fails_only_a_run_of_its_own",
        "orchestration/test_runs.py::test_zones_and_code_lists_come_with_the_first_month_and_are_recorded_once",
        "unit/tlc/test_client.py::test_a_host_out_of_reach_is_reported_soon_and_without_names_of_objects",
        "unit/tlc/test_client.py::test_a_proxy_that_is_not_there_is_named",
        "unit/tlc/test_client.py::test_a_host_that_was_reached_and_then_is_not_is_asked_as_often_as_a_busy_one",
        "unit/tlc/test_client.py::test_a_pause_longer_than_the_time_there_is_ends_the_attempts_at_once",
        "unit/tlc/test_client.py::test_a_certificate_that_nobody_trusts_is_a_permanent_failure",
        "unit/tlc/test_client.py::test_a_redirect_from_https_to_http_is_not_followed",
        "unit/tlc/test_client.py::test_a_file_beyond_the_limit_that_hides_its_size_is_cut_off_at_the_limit",
        "unit/tlc/test_client.py::test_a_disk_without_space_leaves_no_file",
        "unit/tlc/test_client.py::test_an_interrupted_download_leaves_no_file",
        "integration/test_loading.py::test_a_disk_that_is_full_for_one_month_stops_no_other_and_is_named",
        "integration/test_status.py::test_a_host_that_does_not_answer_is_not_asked_for_every_month",
    ],
    "The file": [
        "faults/test_file.py",
        "unit/tlc/test_parquet.py::test_a_file_of_another_data_set_is_refused_as_what_it_is",
        "unit/tlc/test_parquet.py::test_a_time_of_spark_that_would_be_lost_is_shown_as_it_is_in_the_file",
        "unit/tlc/test_parquet.py::test_a_month_in_any_encoding_and_compression_arrives_exactly",
        "unit/tlc/test_parquet.py::test_text_whose_encoding_changes_within_a_file_arrives_once",
        "unit/tlc/test_parquet.py::test_what_the_reader_has_not_implemented_is_not_called_damage",
        "unit/tlc/test_parquet.py::test_the_writer_of_a_mirrors_file_is_named_and_what_it_has_to_do",
        "unit/tlc/test_parquet.py::test_the_advice_on_the_tlcs_own_file_is_not_to_rewrite_it",
        "unit/tlc/test_parquet.py::test_a_long_text_that_a_dictionary_repeats_is_refused_before_it_is_repeated",
        "unit/tlc/test_parquet.py::test_a_long_text_that_prefixes_repeat_is_refused_before_it_is_repeated",
        "unit/tlc/test_parquet.py::test_a_month_in_one_giant_row_group_is_read_in_bounded_memory",
        "unit/tlc/test_parquet.py::test_no_single_flipped_bit_in_the_pages_ever_changes_a_value",
        "unit/tlc/test_parquet.py::test_no_single_flipped_bit_in_the_footer_raises_anything_but_a_bad_file",
        "unit/tlc/test_parquet.py::test_fewer_rows_than_the_footer_promises_are_refused",
        "unit/tlc/test_zone_shapes.py::test_damaged_bytes_are_refused_or_read_and_nothing_else",
        "unit/tlc/test_zone_shapes.py::test_a_zip_that_unpacks_to_too_much_is_refused",
        "unit/tlc/test_zone_shapes.py::test_numbers_that_cannot_be_right_are_refused",
        "unit/report/test_pictures.py::test_without_shapes_there_is_a_reason_instead_of_a_map",
        "integration/test_report.py::test_a_host_without_shapes_costs_the_report_its_map_and_nothing_else",
        "integration/test_report.py::test_an_empty_warehouse_has_a_page_that_says_what_to_do_and_the_asset_too",
        "integration/test_loading.py::test_a_host_without_shapes_and_a_file_that_is_none_leave_the_shapes_as_they_were",
    ],
    "Processes": [
        "faults/test_process.py",
        "faults/test_model.py",
        "browser/test_ui.py::test_the_pages_of_a_loaded_project_are_true_and_their_buttons_work",
        "integration/test_server.py::test_a_zombie_has_ended",
        "integration/test_server.py::test_where_nobody_reaps_orphans_it_is_stopped_killed_and_started_as_anywhere",
        "integration/test_server.py::test_after_kill_9_with_a_busy_session_it_starts_again_with_its_data",
        "integration/test_server.py::test_a_kill_9_in_the_middle_of_initdb_leaves_nothing_that_hinders_the_next_start",
        "integration/test_server.py::test_a_kill_9_before_the_databases_are_made_is_made_good",
        "integration/test_server.py::test_a_stale_pid_file_that_names_a_living_foreign_process_is_detected",
        "integration/test_server.py::test_a_port_that_somebody_took_is_given_up_for_a_new_one_that_is_kept",
        "orchestration/test_alerts.py::test_a_failed_month_is_reported_once_with_reason_page_and_command_then_resolved",
        "orchestration/test_alerts.py::test_a_mart_that_failed_is_resolved_by_itself_alone_and_by_nothing_else",
        "orchestration/test_alerts.py::test_what_never_came_to_its_turn_is_no_incident_and_resolves_none",
        "orchestration/test_alerts.py::test_a_message_that_could_not_be_sent_is_sent_by_a_later_tick",
        "orchestration/test_alerts.py::test_a_warehouse_that_cannot_be_started_keeps_no_message_back",
        "integration/test_cli.py::test_the_embedded_server_is_started_asked_and_stopped",
        "integration/test_cli.py::test_make_dev_says_where_it_is_and_nothing_else_and_is_there_once",
        "integration/test_status.py::test_status_says_what_to_do_and_backfill_does_it",
    ],
    "The database": [
        "faults/test_database.py",
        "integration/test_server.py::test_a_data_directory_that_was_moved_away_is_made_anew_with_its_databases",
        "integration/test_dataset.py::test_a_schema_of_another_data_set_is_refused_before_anything_is_touched",
        "integration/test_sessions.py::test_defaults_of_the_database_change_no_row",
        "integration/test_sessions.py::test_a_default_that_the_pipeline_cannot_run_with_is_named_by_the_error",
        "integration/test_sessions.py::test_a_database_in_sql_ascii_is_a_warehouse_like_any_other",
        "integration/test_sessions.py::test_the_embedded_server_hears_no_variable_of_libpq",
        "integration/test_sessions.py::test_the_whole_pipeline_on_the_embedded_server_hears_no_variable_of_libpq",
        "integration/test_pooler.py::test_five_months_through_a_transaction_pooler_are_exact_and_leave_no_setting",
        "integration/test_pooler.py::test_two_backfills_at_once_through_a_transaction_pooler_are_exact",
        "integration/test_pooler.py::test_psql_through_a_transaction_pooler_says_how_to_find_the_tables",
        "integration/test_pooler.py::test_a_pooler_that_takes_no_options_says_so",
        "integration/test_pooler.py::test_dagsters_storage_behind_a_pooler_is_refused",
        "orchestration/test_views.py::test_a_view_that_is_missing_or_of_other_code_comes_with_the_next_month",
        "orchestration/test_views.py::test_what_the_first_version_made_is_taken_over_for_every_loaded_month",
        "integration/test_materializations.py::test_a_table_that_differs_from_its_model_is_refused_until_a_full_refresh",
    ],
    "Time": [
        "faults/test_time.py",
    ],
    "Concurrency": [
        "faults/test_concurrency.py",
        "integration/test_class.py::test_roles_that_many_change_at_once_are_all_made_and_all_dropped",
        "integration/test_server.py::test_eight_processes_that_start_it_at_once_get_one_server",
        "integration/test_loading.py::test_a_new_column_keeps_its_first_type_as_long_as_nothing_is_lost",
        "orchestration/test_students.py::test_students_in_one_instance_do_not_see_each_others_months",
        "orchestration/test_students.py::test_students_in_one_instance_wait_for_alert_on_and_repair_only_their_own",
        "integration/test_class.py::test_of_three_students_two_broken_ones_do_not_touch_the_third",
        "integration/test_class.py::test_a_student_works_in_their_schema_and_can_read_and_write_nowhere_else",
    ],
    "Access": [
        "faults/test_doors.py",
        "integration/test_server.py::test_another_user_can_neither_read_its_files_nor_list_them",
        "integration/test_server.py::test_it_listens_on_loopback_only",
        "integration/test_server.py::test_a_wrong_password_none_and_that_of_another_home_are_refused",
        "integration/test_cli.py::test_an_address_works_as_it_is_and_a_read_only_one_cannot_write",
    ],
    "Environments": [
        "faults/test_words.py",
        "unit/report/test_page.py::test_a_hostile_name_of_a_zone_is_text_everywhere",
    ],
    "Deployments": [
        "deploy/test_compose.py::test_months_are_exact_whichever_container_is_killed_meanwhile",
        "deploy/test_compose.py::test_no_secret_is_in_an_image_a_log_or_the_records_of_runs",
        "deploy/test_compose.py::test_nobody_sees_a_page_without_the_password_of_a_student",
        "deploy/test_celery.py::test_a_backfill_ends_exact_though_a_host_is_killed_in_its_middle",
    ],
}


def fault_tests_page() -> str:
    """Return the page about the tests that pytest collects."""
    sections = _collect_tests()
    return HEAD + "".join(f"\n## {section}\n{''.join(_render_tests(*tests))}" for section, tests in sections.items())


def _collect_tests() -> dict[str, list[str]]:
    """Return the ids of the tests of each section, with their cases. Collection runs once: it takes seconds."""
    paths = [f"{TESTS}/{test}" for tests in SECTIONS.values() for test in tests]
    command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-p", "no:xdist", *paths]
    text = subprocess.run(command, cwd=PROJECT_DIRECTORY, capture_output=True, text=True, check=True).stdout
    ids = [line.removeprefix(f"{TESTS}/") for line in text.splitlines() if "::" in line]
    return {
        section: [id_ for test in tests for id_ in ids if test in (id_.partition("[")[0], id_.partition("::")[0])]
        for section, tests in SECTIONS.items()
    }


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
    PAGE.write_text(fault_tests_page())
