{#
    A published amount (double precision) as exact numeric(10,2). By way of whole cents: casting a double to numeric
    prints it and reads it again, which takes more than twice as long. NULL where numeric(10,2) cannot hold it; such
    rows are rejected as impossible_amount.
#}
{% macro exact_cents(column) -%}
    (case when abs({{ column }}) < 99999999 then round({{ column }} * 100)::bigint * 0.01 end)::numeric(10, 2)
{%- endmacro %}
