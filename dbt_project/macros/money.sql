{# A published amount (double precision) as whole cents. NULL where numeric(10,2) cannot hold it. #}
{% macro whole_cents(column) -%}
    case when abs({{ column }}) < 99999999 then round({{ column }} * 100)::bigint end
{%- endmacro %}

{#
    A published amount as exact numeric(10,2). By way of whole cents: casting a double to numeric prints it and reads it
    again, which takes more than twice as long. Most amounts are zero, and that is a constant. NULL where it does not
    fit; such rows are rejected as impossible_amount.
#}
{% macro exact_cents(column) -%}
    case
        when {{ column }} = 0 then 0::numeric(10, 2)
        else ({{ whole_cents(column) }} * 0.01)::numeric(10, 2)
    end
{%- endmacro %}

{#
    The exact sum of a published amount, as that of exact_cents: whole cents are added up as integers, which takes half
    the time. NULL where there is nothing to add.
#}
{% macro exact_sum(column) -%}
    sum({{ whole_cents(column) }}) * 0.01
{%- endmacro %}
