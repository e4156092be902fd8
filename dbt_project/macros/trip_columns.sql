{#
    The columns of a trip in fct_trips and rejected_trips, in order; `replaced` has the expressions of the columns that
    are not copied unchanged. Descriptions: models/trips.yml.
#}
{% macro trip_columns(relation, replaced={}) -%}
    {%- set names = [
        'source_month', 'source_row', 'vendor_id', 'pickup_at', 'dropoff_at', 'pickup_date', 'is_store_and_forward',
        'rate_code_id', 'pickup_zone_id', 'dropoff_zone_id', 'passenger_count', 'trip_miles', 'trip_seconds', 'fare_amount',
        'extra', 'mta_tax', 'tip_amount', 'tolls_amount', 'ehail_fee', 'improvement_surcharge', 'congestion_surcharge',
        'cbd_congestion_fee', 'total_amount', 'payment_type_id', 'trip_type_id', 'is_outside_month', 'is_refund',
        'is_zero_distance', 'is_over_12_hours', 'is_missing_codes', 'has_unusual_values', 'components_match_total',
        'has_implausible_distance', 'has_invalid_duration',
    ] -%}
    {%- for name in names -%}
        {{ replaced[name] ~ ' as ' if name in replaced else relation ~ '.' }}{{ name }}{{ ", " if not loop.last }}
    {%- endfor -%}
{%- endmacro %}
