{# The amounts of a trip, in dollars. #}
{% macro amount_columns() -%}
    {{ return([
        'fare_amount', 'extra', 'mta_tax', 'tip_amount', 'tolls_amount', 'ehail_fee', 'improvement_surcharge',
        'congestion_surcharge', 'cbd_congestion_fee', 'total_amount',
    ]) }}
{%- endmacro %}

{# The smallest impossible amount, in dollars: just below what numeric(10,2) can hold. #}
{% macro impossible_dollars() -%} 99999999 {%- endmacro %}

{#
    A published amount as exact numeric(10,2), computed from whole cents: a cast of a double to numeric prints and
    parses the number, which takes more than twice as long. Zero and the `usual` amounts of a flat charge are constants,
    which cost a sixth of the computation. NULL for an amount that does not fit; such rows are rejected as impossible_amount.
#}
{% macro exact_cents(column, usual=[]) -%}
    case
        {%- for amount in [0] + usual %}
        when {{ column }} = {{ amount }} then {{ amount }}::numeric(10, 2)
        {%- endfor %}
        when abs({{ column }}) < {{ impossible_dollars() }} then (round({{ column }} * 100)::bigint * 0.01)::numeric(10, 2)
        else null::numeric(10, 2)
    end
{%- endmacro %}
