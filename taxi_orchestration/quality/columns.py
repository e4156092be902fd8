"""The check of the columns of a month's file against those of its era."""

from collections.abc import Collection, Mapping
from datetime import date

from taxi_orchestration.quality.finding import Finding
from taxi_orchestration.tlc.dataset import DATASET, DataSet


def check_columns(
    month: date, file_columns: Mapping[str, str], left_out: Collection[str] = (), dataset: DataSet = DATASET
) -> Finding:
    """Check a file's columns against its era: new columns are a warning, a missing required column is an error.

    A column that its writer added for itself and that was left out is named without a warning: there is nothing to do.
    `file_columns` are the file's own names and types, `left_out` the names of the columns that were left out.
    """
    era = dataset.era_of(month)
    match = dataset.match([(name, kind) for name, kind in file_columns.items() if name not in left_out], era)
    required = [column.name for column in match.missing_required]
    optional = [column.name for column in match.missing if not column.required]
    new = [match.names[name] for name in match.new]
    counts: dict[str, int | float | str] = {
        "columns": len(file_columns),
        "new columns": ", ".join(new) or "none",
        "missing columns": ", ".join(required + optional) or "none",
        "other types": ", ".join(sorted(match.other_types)) or "none",
        "left out": ", ".join(left_out) or "none",
    }
    if required:
        return Finding(
            "error",
            f"{month:%Y-%m}: the file lacks the required columns {', '.join(required)}.",
            "Open the file. If the TLC renamed a column, add an alias in tlc/dataset.py.",
            counts,
        )
    if new or optional:
        found = [f"new: {', '.join(new)}"] if new else []
        found += [f"missing: {', '.join(optional)}"] if optional else []
        return Finding(
            "warn",
            f"{month:%Y-%m}: the file's columns differ from its era's ({'; '.join(found)}). All rows are loaded.",
            "If later months have the same columns, change tlc/dataset.py, and use or omit the column in stg_trips.",
            counts,
        )
    beside = f", and beside them {', '.join(left_out)}, left out" if left_out else ""
    of_era = len(file_columns) - len(left_out)
    return Finding("pass", f"{month:%Y-%m}: the {of_era} columns of its era{beside}.", counts=counts)
