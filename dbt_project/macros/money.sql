{#
    A published amount as exact numeric(10,2), computed from whole cents: a cast of a double to numeric prints and
    parses the number, which takes more than twice as long. Most amounts are zero, which is a constant. NULL for an
    amount that does not fit; such rows are rejected as impossible_amount.
#}
{% macro exact_cents(column) -%}
    case
        when {{ column }} = 0 then 0::numeric(10, 2)
        when abs({{ column }}) < 99999999 then (round({{ column }} * 100)::bigint * 0.01)::numeric(10, 2)
        else null::numeric(10, 2)
    end
{%- endmacro %}
