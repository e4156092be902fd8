"""The Arrow and PostgreSQL types of columns."""

import pyarrow as pa
import pytest

from taxi_orchestration.tlc.contract import arrow_schema, postgres_type_for
from taxi_orchestration.tlc.dataset import DATASET


def test_every_column_of_the_data_set_has_an_arrow_type_under_its_own_name() -> None:
    assert [(field.name, str(field.type)) for field in arrow_schema(DATASET)] == [
        (column.name, column.type) for column in DATASET.columns
    ]


@pytest.mark.parametrize(
    ("arrow", "postgres"),
    [
        (pa.int8(), "bigint"),
        (pa.uint64(), "bigint"),
        (pa.float32(), "double precision"),
        (pa.decimal128(15, 2), "double precision"),
        (pa.bool_(), "boolean"),
        (pa.large_string(), "text"),
        (pa.dictionary(pa.int32(), pa.string()), "text"),
        (pa.timestamp("ns"), "timestamp without time zone"),
        (pa.date32(), "date"),
    ],
)
def test_a_new_column_gets_the_postgres_type_that_holds_its_values(arrow: pa.DataType, postgres: str) -> None:
    assert postgres_type_for(arrow) == postgres


@pytest.mark.parametrize(
    "arrow", [pa.timestamp("us", tz="UTC"), pa.list_(pa.int32()), pa.decimal128(38, 18), pa.binary(), pa.null()]
)
def test_a_new_column_without_a_defined_postgres_type_is_refused(arrow: pa.DataType) -> None:
    with pytest.raises(TypeError, match="Settled are: integers"):
        postgres_type_for(arrow)
