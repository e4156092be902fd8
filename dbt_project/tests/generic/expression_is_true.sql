{# Every row satisfies the expression. One that is NULL counts as satisfied, as with a CHECK constraint. #}
{% test expression_is_true(model, expression) -%}
select *
from {{ model }}
where ({{ expression }}) is false
{%- endtest %}
