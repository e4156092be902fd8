{#
    view: left alone while its SQL and its documentation are what they were. dbt's own materialization makes every
    view anew and swaps it in by rename at each run: that waits for every reader's open transaction and loses the
    grants.

    A changed view is replaced in place where PostgreSQL allows it (columns kept, new ones at the end). Otherwise it
    is dropped and made again with its grants, and PostgreSQL refuses if another view stands on it: dropping that is
    a person's decision.

    The mark by which a change is seen is the last line of the view's comment.
#}
{% materialization view, adapter='postgres' %}

    {%- set existing = load_cached_relation(this) -%}
    {%- set target_relation = this.incorporate(type='view') -%}
    {%- set grant_config = config.get('grants') -%}
    {%- set documentation = [model.description] -%}
    {%- for column in model.columns.values() -%}
        {%- do documentation.append(column.name ~ ' ' ~ column.data_type ~ ' ' ~ column.description) -%}
    {%- endfor -%}
    {%- set mark = 'dbt: ' ~ local_md5(sql ~ documentation | join('\n')) -%}

    {%- if existing is not none and not existing.is_view -%}
        {{ exceptions.raise_compiler_error(
            existing ~ " is a " ~ existing.type ~ ", but this model makes a view: drop it first."
        ) }}
    {%- endif -%}

    {{ run_hooks(pre_hooks, inside_transaction=False) }}
    {{ run_hooks(pre_hooks, inside_transaction=True) }}

    {% if existing is not none and comment_of(target_relation).endswith(mark) %}
        {% call noop_statement('main', 'VIEW UNCHANGED', 'VIEW UNCHANGED') -%}
            -- {{ target_relation }} is unchanged
        {%- endcall %}
    {% else %}
        {% call statement('main') -%}
            {% if config.get('contract').enforced %}{{ get_assert_columns_equivalent(sql) }}{% endif %}
            {% if existing is not none -%}
            {{ replace_view(target_relation, sql) }}
            {%- else -%}
            create view {{ target_relation }} as ({{ sql }})
            {%- endif %}
        {%- endcall %}
        {% do persist_docs(target_relation, model) %}
        {% do run_query(alter_relation_comment(target_relation, model.description ~ '\n' ~ mark)) %}
    {% endif %}
    {% do apply_grants(target_relation, grant_config, should_revoke=should_revoke(existing, full_refresh_mode=False)) %}

    {{ run_hooks(post_hooks, inside_transaction=True) }}
    {% do adapter.commit() %}
    {{ run_hooks(post_hooks, inside_transaction=False) }}

    {{ return({'relations': [target_relation]}) }}

{% endmaterialization %}

{% macro comment_of(relation) -%}
    {%- call statement('comment', fetch_result=True) -%}
        select coalesce(obj_description('{{ relation }}'::regclass, 'pg_class'), '')
    {%- endcall -%}
    {{ return(load_result('comment').table.rows[0][0]) }}
{%- endmacro %}

{#
    `create or replace view`, and where its columns do not allow that (invalid_table_definition), drop and create
    with the grants carried over.
#}
{% macro replace_view(relation, sql) -%}
    {%- set quote = '$taxi_view$' -%}
    do $taxi$
    declare
        view_sql constant text := {{ quote }}{{ sql }}{{ quote }};
        privilege record;
        privileges aclitem[];
    begin
        execute 'create or replace view {{ relation }} as (' || view_sql || ')';
    exception when invalid_table_definition then
        select relacl into privileges from pg_class where oid = '{{ relation }}'::regclass;
        drop view {{ relation }};
        execute 'create view {{ relation }} as (' || view_sql || ')';
        for privilege in
            select
                acl.privilege_type,
                case when acl.grantee = 0 then 'public' else quote_ident(pg_get_userbyid(acl.grantee)) end as grantee,
                case when acl.is_grantable then ' with grant option' else '' end as grant_option
            from aclexplode(privileges) as acl
        loop
            execute 'grant ' || privilege.privilege_type || ' on {{ relation }} to ' || privilege.grantee
                || privilege.grant_option;
        end loop;
    end
    $taxi$
{%- endmacro %}
