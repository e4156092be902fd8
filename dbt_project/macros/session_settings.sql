{#
    The settings at the start of every transaction, independent of defaults of the role, database or server. The list of
    settings is in taxi_orchestration/postgres/session.py, which Python's connections use too.
    Models and seeds run this macro as their first hook; tests, and the queries of the schema, before their query.
#}
{% macro session_settings() -%}
    {{ env_var('TAXI_DBT_SESSION') }}
{%- endmacro %}
