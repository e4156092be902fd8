{#
    What a transaction begins with, whatever a role, a database or a server has for defaults. Which settings these are
    stands in taxi_orchestration/warehouse/session.py, which connections of Python's begin with too.
    Models and seeds run it as their first hook; tests, and the questions about the schema, before their query.
#}
{% macro session_settings() -%}
    {{ env_var('TAXI_DBT_SESSION') }}
{%- endmacro %}
