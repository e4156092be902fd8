"""The columns of a month's file against the contract of its era."""

from collections.abc import Mapping
from datetime import date

from taxi_orchestration.checks.finding import Finding
from taxi_orchestration.tlc.contract import columns_of, era_of


def check_columns(month: date, file_columns: Mapping[str, str], drift: Mapping[str, object]) -> Finding:
    """Whether the file brought what its era promises: new columns warn, a required one that is missing is an error.

    A column that was left out, being its writer's own, is named and is no reason to warn: there is nothing to do.
    `file_columns` are the file's own names and types, `drift` what reading it noted.
    """
    there = {name.lower() for name in file_columns}
    expected = {column.name: column for column in columns_of(era_of(month))}
    required = [name for name, column in expected.items() if column.required and name not in there]
    optional = [name for name, column in expected.items() if not column.required and name not in there]
    new = [name for name in file_columns if name.lower() in _names(drift, "new_columns")]
    left_out = [name for name in file_columns if name.lower() in _names(drift, "left_out")]
    counts: dict[str, int | float | str] = {
        "columns": len(file_columns),
        "new columns": ", ".join(new) or "none",
        "missing columns": ", ".join(required + optional) or "none",
        "other types": ", ".join(sorted(_names(drift, "other_types"))) or "none",
        "left out": ", ".join(left_out) or "none",
    }
    if required:
        return Finding(
            "error",
            f"{month:%Y-%m}: the file lacks {', '.join(required)}, without which a trip is no trip.",
            "Look at the file: the TLC renamed a column (then adapt tlc/contract.py), or published another file.",
            counts,
        )
    if new or optional:
        found = [f"new: {', '.join(new)}"] if new else []
        found += [f"missing: {', '.join(optional)}"] if optional else []
        return Finding(
            "warn",
            f"{month:%Y-%m}: the file's columns are not those of its era ({'; '.join(found)}). Every row was taken.",
            "If it stays so, say it in tlc/contract.py, and use or leave out the column in stg_trips.",
            counts,
        )
    beside = f", and beside them {', '.join(left_out)}, left out" if left_out else ""
    of_era = len(file_columns) - len(left_out)
    return Finding("good", f"{month:%Y-%m}: the {of_era} columns of its era{beside}.", counts=counts)


def _names(drift: Mapping[str, object], kind: str) -> set[str]:
    columns = drift.get(kind)
    return {str(name).lower() for name in columns} if isinstance(columns, Mapping) else set()
