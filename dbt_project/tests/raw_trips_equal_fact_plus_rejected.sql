{{ config(
    severity='error',
    meta={
        'description':
            'In every month of the window the rows of raw_trips are those of fct_trips and of rejected_trips '
            ~ 'together.',
    },
) }}
select source_month, raw_trips, fact_trips, rejected_trips
from {{ ref('trip_quality') }}
where {{ in_window('source_month') }} and raw_trips <> fact_trips + rejected_trips
