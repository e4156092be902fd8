"""Sample rows as a table for the UI."""

from collections.abc import Mapping, Sequence
from typing import Any


def as_markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Format rows with the same columns as a Markdown table; empty for no rows."""
    if not rows:
        return ""
    names = list(rows[0])
    lines = [names, ["---"] * len(names)]
    lines += [["" if value is None else str(value).replace("|", "\\|") for value in row.values()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
