"""The project's Dagster definitions as lines of text: a diff shows what a change adds, renames or removes.

Regenerate the committed lines: .venv/bin/python -m taxi_orchestration_tests.support.definitions_text
"""

from collections.abc import Iterator

import dagster as dg
from pydantic import SecretStr

from taxi_orchestration.definitions import build_definitions
from taxi_orchestration.settings import PROJECT_DIRECTORY, load_settings

COMMITTED = PROJECT_DIRECTORY / "taxi_orchestration_tests" / "orchestration" / "definitions.txt"
# The sensor `alerts` is defined only if there is an address for alerts.
ALERTING = {"taxi_alert_urls": SecretStr("json://nobody")}


def definitions_as_lines(definitions: dg.Definitions) -> Iterator[str]:
    """Yield assets with group, kinds, partitions, condition and parents, then checks, jobs, schedules and sensors."""
    graph = definitions.resolve_asset_graph()
    specs = {spec.key: spec for spec in definitions.resolve_all_asset_specs()}
    for key in sorted(specs):
        spec, node = specs[key], graph.get(key)
        yield f"asset {key.to_user_string()}"
        yield f"    group {spec.group_name}, kinds {', '.join(sorted(spec.kinds))}"
        yield f"    {_partitions(spec)}{'' if node.is_executable else ', external'}"
        if spec.automation_condition:
            yield f"    built when {spec.automation_condition.get_label()}"
        if node.is_executable and (policy := node.backfill_policy):
            yield f"    months in a run: {policy.max_partitions_per_run or 'all'}"
        for parent in sorted(node.parent_keys):
            yield f"    reads {parent.to_user_string()}"
    for check in sorted(graph.asset_check_keys, key=lambda check: (check.asset_key, check.name)):
        yield f"check {check.asset_key.to_user_string()}: {check.name}"
    repository = definitions.get_repository_def()
    for job in sorted(repository.get_all_jobs(), key=lambda job: job.name):
        if not job.name.startswith("__"):
            yield f"job {job.name}"
            for key in sorted(job.asset_layer.executable_asset_keys):
                yield f"    makes {key.to_user_string()}"
    for schedule in repository.schedule_defs:
        when = f"{schedule.cron_schedule} {schedule.execution_timezone}"
        yield f"schedule {schedule.name}: {when}, {schedule.default_status.value}"
    for sensor in sorted(repository.sensor_defs, key=lambda sensor: sensor.name):
        yield f"sensor {sensor.name}: every {sensor.minimum_interval_seconds} s, {sensor.default_status.value}"


def _partitions(spec: dg.AssetSpec) -> str:
    match spec.partitions_def:
        case None:
            return "no partitions"
        case dg.TimeWindowPartitionsDefinition() as months:
            return f"partitions {months.cron_schedule} from {months.start:%Y-%m}"
        case other:
            return f"partitions {other}"


if __name__ == "__main__":
    alerting = load_settings().model_copy(update=ALERTING)
    COMMITTED.write_text("".join(f"{line}\n" for line in definitions_as_lines(build_definitions(alerting))))
