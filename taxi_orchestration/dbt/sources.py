"""dbt's source file of raw_trips, generated from the data set by `python -m taxi_orchestration.dbt.sources`."""

from taxi_orchestration.settings import DBT_PROJECT_DIRECTORY
from taxi_orchestration.tlc.dataset import DATASET, KEY_COLUMNS

RAW_TRIPS_YML = DBT_PROJECT_DIRECTORY / "models" / "staging" / "raw_trips.yml"

_HEAD = """\
# Made by `python -m taxi_orchestration.dbt.sources` from taxi_orchestration/tlc/dataset.py.
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
"""


def raw_trips_yml() -> str:
    """Return the text of models/staging/raw_trips.yml."""
    columns = [
        f"          - name: {column.name}\n"
        f"            data_type: {column.postgres_type}\n"
        f"            description: >-\n"
        f"              {column.comment}\n"
        for column in (*KEY_COLUMNS, *DATASET.columns)
    ]
    return _HEAD + "".join(columns)


if __name__ == "__main__":
    RAW_TRIPS_YML.write_text(raw_trips_yml())
