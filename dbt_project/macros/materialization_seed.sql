{#
    seed: loaded again only when its rows are not those of the file, and then by delete and insert in one
    transaction. dbt's own materialization truncates at each run, which waits for every reader's open transaction
    and locks the next readers out.

    A seed whose columns changed needs --full-refresh: the table is dropped with the views upon it, which the same
    build makes again, without their grants.
#}
{% materialization seed, adapter='postgres' %}

    {%- set existing = load_cached_relation(this) -%}
    {%- set target_relation = this.incorporate(type='table') -%}
    {%- set grant_config = config.get('grants') -%}
    {%- set rows = load_agate_table() -%}
    {%- do store_result('agate_table', response='OK', agate_table=rows) -%}

    {%- if existing is not none and not existing.is_table -%}
        {{ exceptions.raise_compiler_error("Cannot seed to '" ~ existing ~ "': it is a " ~ existing.type ~ ".") }}
    {%- endif -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {% set loaded = none %}
    {% if existing is not none %}
        {% call statement('loaded', fetch_result=True) -%}
            select * from {{ target_relation }}
        {%- endcall %}
        {% set loaded = load_result('loaded').table %}
        {% if loaded.column_names != rows.column_names %}
            {% if not should_full_refresh() %}
                {{ exceptions.raise_compiler_error(
                    "The table " ~ target_relation ~ " has the columns " ~ loaded.column_names | join(', ')
                    ~ ", its seed " ~ rows.column_names | join(', ') ~ ": run dbt build --full-refresh --select "
                    ~ model.name ~ "+ without a window."
                ) }}
            {% endif %}
            {% do adapter.drop_relation(existing) %}
            {% set loaded = none %}
            {% set existing = none %}
        {% endif %}
    {% endif %}

    {% if existing is none %}
        {% do create_csv_table(model, rows) %}
        {% do create_indexes(target_relation) %}
        {% do persist_docs(target_relation, model) %}
    {% endif %}

    {% if loaded is not none and seed_rows(loaded) == seed_rows(rows) %}
        {% call noop_statement('main', 'SEED UNCHANGED', 'SEED UNCHANGED', 0) -%}
            -- {{ target_relation }} is unchanged
        {%- endcall %}
    {% else %}
        {% if loaded is not none %}
            {% do run_query('delete from ' ~ target_relation) %}
        {% endif %}
        {% set insert_sql = load_csv_rows(model, rows) %}
        {% call noop_statement('main', 'INSERT ' ~ rows.rows | length, 'INSERT', rows.rows | length) -%}
            {{ insert_sql }}
        {%- endcall %}
    {% endif %}
    {% do apply_grants(target_relation, grant_config, should_revoke=should_revoke(existing, full_refresh_mode=False)) %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}

    {{ return({'relations': [target_relation]}) }}

{% endmaterialization %}

{# The rows as sorted lines of text: the two sides come with other Python types (Decimal, str) for the same value. #}
{% macro seed_rows(table) -%}
    {%- set lines = [] -%}
    {%- for row in table.rows -%}
        {%- do lines.append(row.values() | map('string') | join('\t')) -%}
    {%- endfor -%}
    {{ return(lines | sort) }}
{%- endmacro %}
