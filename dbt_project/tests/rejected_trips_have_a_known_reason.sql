{{ config(
    severity='error',
    group='core',
    meta={'description': 'Every rejected row has at least one reason, and only reasons that have a rule.'},
) }}
select source_month, source_row, rejection_reasons
from {{ ref('rejected_trips') }}
where
    {{ in_window('source_month') }}
    and (
        rejection_reasons = '{}'
        or not rejection_reasons <@ '{ {{- rejection_rules() | join(",") -}} }'
    )
