"""The columns of a month's file against those of its era."""

from collections.abc import Mapping
from datetime import date

from taxi_orchestration.checks.finding import Finding
from taxi_orchestration.tlc.dataset import DATASET, DataSet


def check_columns(month: date, file_columns: Mapping[str, str], dataset: DataSet = DATASET) -> Finding:
    """Whether the file brought what its era promises: new columns warn, a required one that is missing is an error.

    `file_columns` are the file's own names and types.
    """
    match = dataset.match(file_columns.items(), dataset.era_of(month))
    required = [column.name for column in match.missing_required]
    optional = [column.name for column in match.missing if not column.required]
    new = [match.names[name] for name in match.new]
    counts: dict[str, int | float | str] = {
        "columns": len(file_columns),
        "new columns": ", ".join(new) or "none",
        "missing columns": ", ".join(required + optional) or "none",
        "other types": ", ".join(sorted(match.other_types)) or "none",
    }
    if required:
        return Finding(
            "error",
            f"{month:%Y-%m}: the file lacks {', '.join(required)}, without which a trip is no trip.",
            "Look at the file: the TLC renamed a column (then add an alias in tlc/dataset.py), or published another.",
            counts,
        )
    if new or optional:
        found = [f"new: {', '.join(new)}"] if new else []
        found += [f"missing: {', '.join(optional)}"] if optional else []
        return Finding(
            "warn",
            f"{month:%Y-%m}: the file's columns are not those of its era ({'; '.join(found)}). Every row was taken.",
            "If it stays so, say it in tlc/dataset.py, and use or leave out the column in stg_trips.",
            counts,
        )
    return Finding("good", f"{month:%Y-%m}: the {len(file_columns)} columns of its era.", counts=counts)
