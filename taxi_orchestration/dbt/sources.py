"""dbt's file of sources, generated from the raw tables by `python -m taxi_orchestration.dbt.sources`."""

from textwrap import fill

from taxi_orchestration.settings import DBT_PROJECT_DIRECTORY
from taxi_orchestration.warehouse.raw_tables import TABLE_COMMENTS, describe_columns

SOURCES_YML = DBT_PROJECT_DIRECTORY / "models" / "staging" / "sources.yml"

_HEAD = """\
# Made by `python -m taxi_orchestration.dbt.sources` from the columns in taxi_orchestration/tlc and warehouse.
sources:
  - name: raw
    description: The tables that taxi_orchestration loads, with the TLC's files as they are.
    schema: "{{ target.schema }}"
    tables:
"""


def sources_yml() -> str:
    """Return the text of models/staging/sources.yml."""
    text = _HEAD
    for table, columns in describe_columns().items():
        text += f"      - name: {table}\n" + _description(TABLE_COMMENTS[table], 8)
        # raw_loads is no asset: each load of raw_trips writes it.
        if table != "raw_loads":
            text += f"        config:\n          meta:\n            dagster:\n              asset_key: [{table}]\n"
        text += "        columns:\n"
        for name, data_type, comment in columns:
            text += f"          - name: {name}\n            data_type: {data_type}\n" + _description(comment, 12)
    return text


def _description(words: str, indent: int) -> str:
    lines = fill(words, 120, initial_indent=" " * (indent + 2), subsequent_indent=" " * (indent + 2))
    return f"{' ' * indent}description: >-\n{lines}\n"


if __name__ == "__main__":
    SOURCES_YML.write_text(sources_yml())
