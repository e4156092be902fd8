{#
    All relations are in the schema of the target, beside the raw tables, instead of dbt's default
    "<schema>_<custom>".
#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ target.schema }}
{%- endmacro %}
