"""The Arrow types of the batches: those of the data set, and the rules for columns that the data set lacks."""

import pyarrow as pa

from taxi_orchestration.tlc.dataset import POSTGRES_TYPES, DataSet

MAX_DECIMAL_DIGITS = 15
"""Decimals of up to 15 digits are exact after a cast to double precision and back."""


def arrow_schema(dataset: DataSet) -> pa.Schema:
    """Return the schema of a batch of a file without new columns."""
    return pa.schema([pa.field(column.name, pa.type_for_alias(column.type)) for column in dataset.columns])


def target_type_for(source: pa.DataType) -> pa.DataType | None:
    """Return the Arrow type of a column that the data set lacks; None if no type is settled."""
    types = pa.types
    if types.is_dictionary(source):
        return target_type_for(source.value_type)
    if types.is_integer(source):
        return pa.int64()
    if types.is_floating(source):
        return pa.float64()
    if types.is_decimal(source) and source.precision <= MAX_DECIMAL_DIGITS:
        return pa.float64()
    if types.is_boolean(source):
        return pa.bool_()
    if types.is_string(source) or types.is_large_string(source) or types.is_string_view(source):
        return pa.string()
    if types.is_timestamp(source) and source.tz is None:
        return pa.timestamp("us")
    if types.is_date(source):
        return pa.date32()
    return None


def postgres_type_for(source: pa.DataType) -> str:
    """Return the PostgreSQL type of a column that the data set lacks. Raises TypeError if no type is settled."""
    target = target_type_for(source)
    if target is None:
        known = "integers, floats, decimals of up to 15 digits, booleans, text, timestamps without a zone, dates"
        raise TypeError(f"No column type is settled for the Arrow type {source}. Settled are: {known}.")
    return POSTGRES_TYPES[str(target)]
