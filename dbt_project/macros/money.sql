{#
    A published amount as exact numeric(10,2). By way of whole cents: casting a double to numeric prints it and reads it
    again, which takes more than twice as long. Most amounts are zero, and that is a constant. NULL where it does not
    fit; such rows are rejected as impossible_amount.
#}
{% macro exact_cents(column) -%}
    case
        when {{ column }} = 0 then 0::numeric(10, 2)
        when abs({{ column }}) < 99999999 then (round({{ column }} * 100)::bigint * 0.01)::numeric(10, 2)
        else null::numeric(10, 2)
    end
{%- endmacro %}
