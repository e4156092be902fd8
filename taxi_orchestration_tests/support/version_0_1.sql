-- What version 0.1 left in its schema: the tables that dbt filled by month, as pg_dump shows those that commit 9f16fca made,
-- and three of its views, the one with the fewest of today's columns among them. Rows are of the months in raw_trips.
comment on table raw_trips is null;
drop table raw_zone_shapes;

create table fct_trips (
    source_month date not null,
    source_row integer not null,
    vendor_id integer,
    pickup_at timestamp without time zone not null,
    dropoff_at timestamp without time zone,
    pickup_date date not null,
    is_store_and_forward boolean,
    rate_code_id integer,
    pickup_zone_id integer,
    dropoff_zone_id integer,
    passenger_count integer,
    trip_miles numeric(10, 2),
    trip_seconds bigint,
    fare_amount numeric(10, 2),
    extra numeric(10, 2),
    mta_tax numeric(10, 2),
    tip_amount numeric(10, 2),
    tolls_amount numeric(10, 2),
    ehail_fee numeric(10, 2),
    improvement_surcharge numeric(10, 2),
    congestion_surcharge numeric(10, 2),
    cbd_congestion_fee numeric(10, 2),
    total_amount numeric(10, 2),
    payment_type_id integer,
    trip_type_id integer,
    is_outside_month boolean not null,
    is_refund boolean not null,
    is_zero_distance boolean not null,
    is_over_12_hours boolean not null,
    is_missing_codes boolean not null,
    has_unusual_values boolean not null,
    components_match_total boolean not null,
    constraint dropoff_not_before_pickup check (dropoff_at >= pickup_at and trip_seconds >= 0),
    constraint pickup_date_of_pickup_at check (pickup_date = pickup_at::date),
    constraint refund_is_negative_total check (is_refund = (total_amount < 0::numeric) or total_amount is null),
    constraint trip_miles_not_negative check (trip_miles >= 0::numeric),
    primary key (source_month, source_row)
);
create index on fct_trips using brin (pickup_at, pickup_date);
insert into fct_trips (
    source_month, source_row, pickup_at, pickup_date, is_outside_month, is_refund, is_zero_distance, is_over_12_hours,
    is_missing_codes, has_unusual_values, components_match_total
)
select
    source_month, source_row, lpep_pickup_datetime, lpep_pickup_datetime::date, false, false, false, false,
    false, false, true
from raw_trips;

create table rejected_trips (
    source_month date not null,
    source_row integer not null,
    vendor_id integer,
    pickup_at timestamp without time zone,
    dropoff_at timestamp without time zone,
    pickup_date date,
    is_store_and_forward boolean,
    rate_code_id integer,
    pickup_zone_id integer,
    dropoff_zone_id integer,
    passenger_count integer,
    trip_miles numeric(10, 2),
    trip_seconds bigint,
    fare_amount numeric(10, 2),
    extra numeric(10, 2),
    mta_tax numeric(10, 2),
    tip_amount numeric(10, 2),
    tolls_amount numeric(10, 2),
    ehail_fee numeric(10, 2),
    improvement_surcharge numeric(10, 2),
    congestion_surcharge numeric(10, 2),
    cbd_congestion_fee numeric(10, 2),
    total_amount numeric(10, 2),
    payment_type_id integer,
    trip_type_id integer,
    is_outside_month boolean not null,
    is_refund boolean not null,
    is_zero_distance boolean not null,
    is_over_12_hours boolean not null,
    is_missing_codes boolean not null,
    has_unusual_values boolean not null,
    components_match_total boolean not null,
    rejection_reasons text [] not null,
    primary key (source_month, source_row)
);

create table undocumented_codes (
    source_month date not null,
    code_kind text not null,
    code integer not null,
    trips bigint not null,
    primary key (source_month, code_kind, code)
);
insert into undocumented_codes
select source_month, 'zone', 999, 1
from raw_loads;

create table monthly_revenue_by_file (
    source_month date not null,
    pickup_month date not null,
    payment_type_id integer not null,
    trips bigint not null,
    refunds bigint not null,
    fare_amount numeric(14, 2) not null,
    extra numeric(14, 2) not null,
    mta_tax numeric(14, 2) not null,
    tip_amount numeric(14, 2) not null,
    tolls_amount numeric(14, 2) not null,
    ehail_fee numeric(14, 2) not null,
    improvement_surcharge numeric(14, 2) not null,
    congestion_surcharge numeric(14, 2) not null,
    cbd_congestion_fee numeric(14, 2) not null,
    total_amount numeric(14, 2) not null,
    primary key (source_month, pickup_month, payment_type_id)
);
insert into monthly_revenue_by_file
select source_month, source_month, 1, rows, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1
from raw_loads;

create table daily_zone_activity_by_file (
    source_month date not null,
    pickup_date date not null,
    pickup_zone_id integer not null,
    trips bigint not null,
    passengers bigint not null,
    trip_miles numeric(14, 2) not null,
    trip_seconds bigint not null,
    fare_amount numeric(14, 2) not null,
    tip_amount numeric(14, 2) not null,
    tolls_amount numeric(14, 2) not null,
    total_amount numeric(14, 2) not null,
    primary key (source_month, pickup_date, pickup_zone_id)
);
create index on daily_zone_activity_by_file (pickup_date);
insert into daily_zone_activity_by_file
select source_month, source_month, 74, rows, 1, 1, 1, 1, 0, 0, 1
from raw_loads;

create table trip_quality (
    source_month date not null primary key,
    raw_trips bigint not null,
    fact_trips bigint not null,
    rejected_trips bigint not null,
    raw_total_amount numeric(14, 2) not null,
    fact_total_amount numeric(14, 2) not null,
    rejected_total_amount numeric(14, 2) not null,
    outside_month_trips bigint not null,
    refund_trips bigint not null,
    zero_distance_trips bigint not null,
    over_12_hours_trips bigint not null,
    missing_codes_trips bigint not null,
    unusual_value_trips bigint not null,
    unmatched_total_trips bigint not null,
    rejected_pickup_missing bigint not null,
    rejected_pickup_far_outside_month bigint not null,
    rejected_dropoff_before_pickup bigint not null,
    rejected_implausible_distance bigint not null,
    rejected_impossible_amount bigint not null
);
insert into trip_quality
select source_month, rows, rows, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
from raw_loads;

create view dim_zones as
select locationid as zone_id, zone as zone_name, borough, service_zone, true as is_documented
from raw_zones
union all
select distinct code, 'Unknown (' || code || ')', 'Unknown', 'N/A', false
from undocumented_codes
where code_kind = 'zone' and code <> -1 and code not in (select locationid from raw_zones);

create view daily_zone_activity as
select
    activity.pickup_date,
    activity.pickup_zone_id,
    zones.zone_name,
    zones.borough,
    sum(activity.trips)::bigint as trips,
    sum(activity.passengers)::bigint as passengers,
    sum(activity.trip_miles)::numeric(14, 2) as trip_miles,
    sum(activity.trip_seconds)::bigint as trip_seconds,
    sum(activity.fare_amount)::numeric(14, 2) as fare_amount,
    sum(activity.tip_amount)::numeric(14, 2) as tip_amount,
    sum(activity.tolls_amount)::numeric(14, 2) as tolls_amount,
    sum(activity.total_amount)::numeric(14, 2) as total_amount
from daily_zone_activity_by_file as activity
left join dim_zones as zones on activity.pickup_zone_id = zones.zone_id
group by activity.pickup_date, activity.pickup_zone_id, zones.zone_name, zones.borough;

create view monthly_revenue as
select
    pickup_month,
    payment_type_id,
    null::text as payment_type_name,
    sum(trips)::bigint as trips,
    sum(refunds)::bigint as refunds,
    sum(fare_amount)::numeric(14, 2) as fare_amount,
    sum(extra)::numeric(14, 2) as extra,
    sum(mta_tax)::numeric(14, 2) as mta_tax,
    sum(tip_amount)::numeric(14, 2) as tip_amount,
    sum(tolls_amount)::numeric(14, 2) as tolls_amount,
    sum(ehail_fee)::numeric(14, 2) as ehail_fee,
    sum(improvement_surcharge)::numeric(14, 2) as improvement_surcharge,
    sum(congestion_surcharge)::numeric(14, 2) as congestion_surcharge,
    sum(cbd_congestion_fee)::numeric(14, 2) as cbd_congestion_fee,
    sum(total_amount)::numeric(14, 2) as total_amount
from monthly_revenue_by_file
group by pickup_month, payment_type_id;
