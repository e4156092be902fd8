{#
    Everything lives in the one schema of the target, beside the raw tables: no "<schema>_<custom>" as dbt makes by
    default.
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ target.schema }}
{%- endmacro %}
