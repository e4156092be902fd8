{#
    No two rows with the same key, and no NULL in the key or in the other columns named: one row for each key that
    breaks this.
#}
{% test has_unique_key(model, key, never_null=[]) -%}
select
    {{ key | join(', ') }},
    count(*) as rows_found
from {{ model }}
group by {{ key | join(', ') }}
having
    count(*) > 1
    {%- for column in key + never_null %}
    or count(*) <> count({{ column }})
    {%- endfor %}
{%- endtest %}
