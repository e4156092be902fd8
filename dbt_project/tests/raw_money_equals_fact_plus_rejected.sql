{{ config(
    severity='error',
    meta={
        'description':
            'In every month of the window total_amount of raw_trips is that of fct_trips and of rejected_trips '
            ~ 'together, to the cent.',
    },
) }}
select source_month, raw_total_amount, fact_total_amount, rejected_total_amount
from {{ ref('trip_quality') }}
where {{ in_window('source_month') }} and raw_total_amount <> fact_total_amount + rejected_total_amount
