"""dbt's description of raw_trips, made from the data set: `python -m taxi_orchestration.dbt_sources` writes it."""

from taxi_orchestration.settings import DBT_PROJECT_DIRECTORY
from taxi_orchestration.tlc.dataset import DATASET

RAW_TRIPS_YML = DBT_PROJECT_DIRECTORY / "models" / "staging" / "raw_trips.yml"

# Types are spelled as PostgreSQL's format_type does.
_FULL_NAMES = {"timestamp": "timestamp without time zone"}

_HEAD = """\
# Made by `python -m taxi_orchestration.dbt_sources` from taxi_orchestration/tlc/dataset.py.
sources:
  - name: raw
    schema: "{{ target.schema }}"
    tables:
      - name: raw_trips
        description: >-
          One row per row of the newest accepted file of each month, under the source's names in lower case.
          Partitioned by source_month.
        config:
          meta:
            dagster:
              asset_key: [raw_trips]
        columns:
          - name: source_month
            data_type: date
            description: Month of the file, as its first day. The partition key.
          - name: source_row
            data_type: integer
            description: Position of the row in its file, from 1.
"""


def raw_trips_yml() -> str:
    """The text of models/staging/raw_trips.yml."""
    columns = [
        f"          - name: {column.name}\n"
        f"            data_type: {_FULL_NAMES.get(column.postgres_type, column.postgres_type)}\n"
        f"            description: >-\n"
        f"              {column.comment}\n"
        for column in DATASET.columns
    ]
    return _HEAD + "".join(columns)


if __name__ == "__main__":
    RAW_TRIPS_YML.write_text(raw_trips_yml())
