"""The pictures of the report: for each the question, the sentence that answers it, its charts and its table.

Every function takes `Frames` and returns a `Picture`, or None if the loaded months have no data for it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from taxi_orchestration.report import charts
from taxi_orchestration.report.formats import (
    format_change,
    format_count,
    format_day,
    format_list,
    format_moment,
    format_money,
    format_month,
    format_percent,
)
from taxi_orchestration.report.frames import Frames

# The number of categories with a colour each; the rarer ones are merged into "Other".
MOST_KINDS = 6
TOP_ZONES = 20
# The share of a day's trips: 7 % pay the congestion fee from its first day on; before, single wrong rows have it.
FEE_SHARE = 0.01


@dataclass(frozen=True)
class Table:
    """The table behind a picture: the labels of its columns, and rows of numbers, texts and None."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    money: frozenset[int] = frozenset()
    """Positions of the columns that are dollars."""
    shares: frozenset[int] = frozenset()
    """Positions of the columns that are shares of one."""


@dataclass(frozen=True)
class Panel:
    """One chart of a picture, with a heading if the picture has several charts."""

    chart: charts.Chart
    heading: str = ""


@dataclass(frozen=True)
class Picture:
    """A question, the sentence that answers it, its charts, and the table with the numbers of the charts."""

    name: str
    question: str
    sentence: str
    table: Table
    panels: Sequence[Panel] = ()
    note: str = ""
    data: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    """The rows of the charts, by the names of the data in the charts."""
    wide: bool = True


def month_number(months: pd.Series) -> pd.Series:
    """Return months as numbers, counted from year 0."""
    return months.dt.year * 12 + months.dt.month - 1


def with_year_before(months: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Add before_* for each of `columns`: the value of the month a year before, if it is one of `months`."""
    before = months[["month", *columns]].copy()
    before["month"] = (before["month"] + pd.DateOffset(years=1)).astype(months["month"].dtype)
    return months.merge(before.rename(columns={c: f"before_{c}" for c in columns}), how="left", on="month")


def trips_by_month(frames: Frames) -> Picture | None:
    """Show trips by month, beside the year before."""
    return _volume(frames, "trips", "trips", "How many trips are there, month by month?", format_count, brush=True)


def revenue_by_month(frames: Frames) -> Picture | None:
    """Show revenue by month, beside the year before."""
    return _volume(frames, "revenue", "total_amount", "How much revenue do they bring in?", format_money)


def _volume(
    frames: Frames, name: str, column: str, question: str, formatted: Callable[[float], str], *, brush: bool = False
) -> Picture | None:
    months = with_year_before(frames.within_complete_months(frames.months), ["trips", "total_amount"])
    if months.empty:
        return None
    is_money = column == "total_amount"
    title = "Revenue" if is_money else "Trips"
    data = months.assign(month=month_number(months["month"]))
    shown = ["month", "trips", "total_amount", "before_trips", "before_total_amount"]
    rows = [
        (f"{r.month:%Y-%m}", getattr(r, column), _value(getattr(r, f"before_{column}"))) for r in months.itertuples()
    ]
    table = Table(["Month", title, "Year before"], rows, frozenset({1, 2}) if is_money else frozenset())
    chart = charts.monthly_bars("months", column, title, is_money=is_money, brush=brush)
    note = "The orange line is the same month a year before." if months[f"before_{column}"].notna().any() else ""
    sentence = _describe_newest_month(months, column, formatted)
    return Picture(name, question, sentence, table, [Panel(chart)], note, {"months": data[shown]}, wide=False)


def _describe_newest_month(months: pd.DataFrame, column: str, formatted: Callable[[float], str]) -> str:
    """Compare the newest month with the year before, and with the most and the least of all months."""
    last, is_money = months.iloc[-1], column == "total_amount"
    noun = "" if is_money else " trips"
    sentence = f"{format_month(last['month'])}, the newest complete month, has {formatted(last[column])}{noun}"
    if pd.notna(last[f"before_{column}"]) and last[f"before_{column}"] > 0:
        change = format_change(last[column], last[f"before_{column}"])
        change = {"as many": "as much"}.get(change, change.replace("fewer", "less")) if is_money else change
        sentence += f", {change} {'as' if change.startswith('as') else 'than'} a year before"
    if len(months) > 2:
        for extreme, row in (("most", months[column].idxmax()), ("least", months[column].idxmin())):
            of_all = months.loc[row]
            where = f"{formatted(of_all[column])} in {format_month(of_all['month'])}"
            sentence += f"; the {extreme} of all" if row == last.name else f"; the {extreme} is {where}"
    return f"{sentence}."


def calendar_of_days(frames: Frames) -> Picture | None:
    """Show trips a day, as a calendar."""
    days = frames.within_complete_months(frames.days, "day")
    if days.empty:
        return None
    busiest, quietest = days.loc[days["trips"].idxmax()], days.loc[days["trips"].idxmin()]
    sentence = (
        f"The busiest day is {format_day(busiest['day'])}, with {format_count(busiest['trips'])} trips; "
        f"the quietest {format_day(quietest['day'])}, with {format_count(quietest['trips'])}."
    )
    if change := largest_change(days):
        sentence += (
            f" The largest change is about {format_day(change.day)}: in the four weeks before a usual day has "
            f"{format_count(change.before)} trips, in the four weeks from then on {format_count(change.after)}."
        )
    has_fee = days["trips_with_cbd_fee"] >= FEE_SHARE * days["trips"]
    if has_fee.any() and not has_fee.iloc[0]:
        first = days.loc[has_fee.idxmax(), "day"]
        # Without the day before, the first day of the fee is unknown.
        if (days["day"] == first - pd.Timedelta(days=1)).any():
            sentence += f" The fee of Manhattan's congestion zone is paid from {format_day(first)} on."
    first_year = int(days["day"].dt.year.min())
    years = int(days["day"].dt.year.max()) - first_year + 1
    new_year = days["day"].dt.to_period("Y").dt.to_timestamp()
    data = pd.DataFrame(
        {
            "month": month_number(days["day"]),
            "day": days["day"].dt.day,
            "row": (days["day"].dt.year - first_year) * 8 + days["day"].dt.day_of_week,
            "week": (days["day"].dt.day_of_year - 1 + new_year.dt.day_of_week) // 7,
            "trips": days["trips"],
            "total_amount": days["total_amount"],
            "has_fee": has_fee,
        }
    )
    table = Table(
        ["Day", "Trips", "Revenue", "Trips with the congestion fee"],
        [(f"{r.day:%Y-%m-%d}", r.trips, r.total_amount, r.trips_with_cbd_fee) for r in days.itertuples()],
        frozenset({2}),
    )
    chart = charts.calendar("days", first_year, years, round_steps(days["trips"]))
    question = "Which days are busy, and which are quiet?"
    note = "A column is a week, Monday at its top. The classes have about as many days each."
    if has_fee.any():
        note += " A dot marks the days on which at least one trip in a hundred paid the congestion fee."
    return Picture("days", question, sentence, table, [Panel(chart)], note, {"days": data})


class Change(NamedTuple):
    """A day from which the number of trips changes, with the median of a day in the four weeks on either side."""

    day: date
    before: float
    after: float


def largest_change(days: pd.DataFrame) -> Change | None:
    """Find the day about which the median trips of a day change most; None if no change reaches a factor of 1.5.

    `days` has day and trips. Only days with four complete weeks of data on either side are considered.
    """
    trips = days.set_index("day")["trips"].asfreq("D")
    until_here = trips.rolling(28).median()
    before, after = until_here.shift(1), until_here.shift(-27)
    change = np.log((after / before).where((before > 0) & (after > 0))).abs()
    if not change.max() >= np.log(1.5):
        return None
    # The medians of four weeks differ as much for several days: take the middle day.
    near = change.index[change >= change.max() - 0.01]
    day = near[len(near) // 2]
    return Change(day.date(), before[day], after[day])


def week_of_hours(frames: Frames) -> Picture | None:
    """Show trips by weekday and hour."""
    hours = frames.within_complete_months(frames.hours)
    if hours.empty:
        return None
    sums = hours.groupby(["weekday", "hour"], as_index=False)["trips"].sum()
    sums["share"] = sums["trips"] / sums["trips"].sum()
    names = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
    top = sums.loc[sums["trips"].idxmax()]
    night = sums[sums["hour"].between(0, 5)]["share"].sum()
    weekday, hour = names[int(top["weekday"]) - 1], int(top["hour"])
    sentence = (
        f"The fullest hour is {weekday} from {hour}:00 to {hour + 1}:00; "
        f"{format_percent(night)} of all trips begin between midnight and 6:00."
    )
    data = hours.assign(month=month_number(hours["month"]))
    table = Table(
        ["Weekday", "Hour", "Trips", "Share"],
        [(names[int(r.weekday) - 1], f"{r.hour}:00", r.trips, r.share) for r in sums.itertuples()],
        shares=frozenset({3}),
    )
    steps = [0.002, 0.004, 0.006, 0.008, 0.010, 0.012]
    chart = charts.week("hours", steps)
    return Picture("hours", "When in the week do people ride?", sentence, table, [Panel(chart)], data={"hours": data})


def zone_totals(frames: Frames) -> pd.DataFrame:
    """Return pickups, drop-offs and revenue of every zone over all loaded months, and their shares."""
    measures = ["pickups", "dropoffs", "total_amount"]
    sums = frames.within_complete_months(frames.zone_months).groupby("zone_id", as_index=False)[measures].sum()
    totals = frames.zones.merge(sums, how="outer", on="zone_id").fillna({m: 0 for m in measures})
    totals["zone_name"] = totals["zone_name"].fillna("Zone " + totals["zone_id"].astype(str))
    totals["borough"] = totals["borough"].fillna("Unknown")
    totals = totals.astype({"pickups": "int64", "dropoffs": "int64"}).round({"total_amount": 2})
    for measure in measures:
        total = totals[measure].sum()
        totals[f"share_{measure}"] = totals[measure] / total if total else 0.0
    return totals.assign(shown=True)


def map_of_zones(frames: Frames) -> Picture | None:
    """Show the map of the zones, or the reason for a missing map."""
    totals = zone_totals(frames)
    if not totals["pickups"].sum():
        return None
    on_map = totals.set_index("zone_id").loc[lambda zones: zones.index.isin(frames.zone_shapes["zone_id"])]
    busy = totals.sort_values("pickups", ascending=False)
    half = int((busy["pickups"].cumsum() < totals["pickups"].sum() / 2).sum()) + 1
    sentence = (
        f"Half of all trips begin in {half} of {int((totals['pickups'] > 0).sum())} zones; "
        f"the busiest is {busy.iloc[0]['zone_name']} ({busy.iloc[0]['borough']})."
        if half > 1
        else f"Most trips begin in {busy.iloc[0]['zone_name']} ({busy.iloc[0]['borough']})."
    )
    columns = ["Zone", "Name", "Borough", "Pickups", "Share of pickups", "Drop-offs", "Revenue"]
    table = Table(
        columns,
        [
            (r.zone_id, r.zone_name, r.borough, r.pickups, r.share_pickups, r.dropoffs, r.total_amount)
            for r in busy.itertuples()
            if r.pickups or r.dropoffs
        ],
        frozenset({6}),
        frozenset({4}),
    )
    question = "Where do trips begin and end?"
    if frames.zone_shapes.empty:
        reason = frames.no_shapes_reason or "The shapes of the zones are not loaded."
        return Picture("map", question, sentence, table, note=f"There is no map: {reason}", data={"totals": totals})
    elsewhere = 1 - on_map["pickups"].sum() / totals["pickups"].sum()
    note = f"{format_percent(elsewhere)} of pickups are in no zone of the map." if elsewhere > 0 else ""
    shapes = pd.DataFrame(
        {
            "type": "Feature",
            "id": frames.zone_shapes["zone_id"],
            "geometry": [{"type": "MultiPolygon", "coordinates": shape} for shape in frames.zone_shapes["polygons"]],
        }
    )
    data = {"shapes": shapes, "totals": totals}
    return Picture("map", question, sentence, table, [Panel(charts.zone_map("shapes", "totals"))], note, data)


def boroughs(frames: Frames) -> Picture | None:
    """Show boroughs by pickups, drop-offs or revenue."""
    totals = zone_totals(frames)
    if not totals["pickups"].sum():
        return None
    measures = ["pickups", "share_pickups", "dropoffs", "total_amount"]
    sums = totals.groupby("borough", as_index=False)[measures].sum().sort_values("pickups", ascending=False)
    shares = [f"{format_percent(r.share_pickups)} in {r.borough}" for r in sums[sums["pickups"] > 0][:3].itertuples()]
    table = Table(
        ["Borough", "Pickups", "Share of pickups", "Drop-offs", "Revenue"],
        [(r.borough, *(getattr(r, measure) for measure in measures)) for r in sums.itertuples()],
        frozenset({4}),
        frozenset({2}),
    )
    chart = charts.place_bars("totals", by="borough", top=8)
    sentence = f"Pickups: {format_list(shares)}."
    return Picture("boroughs", "Which boroughs?", sentence, table, [Panel(chart)], data={"totals": totals}, wide=False)


def top_zones(frames: Frames) -> Picture | None:
    """Show the twenty zones with the most pickups, drop-offs or revenue."""
    totals = zone_totals(frames)
    if not totals["pickups"].sum():
        return None
    top = totals.sort_values("pickups", ascending=False)[:TOP_ZONES]
    top = top[top["pickups"] > 0]
    sentence = f"{len(top)} zones have {format_percent(top['share_pickups'].sum())} of all pickups."
    table = Table(
        ["Zone", "Name", "Borough", "Pickups", "Share of pickups"],
        [(r.zone_id, r.zone_name, r.borough, r.pickups, r.share_pickups) for r in top.itertuples()],
        shares=frozenset({4}),
    )
    chart = charts.place_bars("totals", by="zone_name", top=TOP_ZONES)
    question = "Which zones are the busiest?"
    return Picture("zones", question, sentence, table, [Panel(chart)], data={"totals": totals}, wide=False)


def history_of_zone(frames: Frames) -> Picture | None:
    """Show the pickups of one zone by month; a control of the page selects the zone."""
    months = frames.within_complete_months(frames.zone_months)
    months = months[months["pickups"] > 0]
    if months.empty:
        return None
    names = frames.zones.set_index("zone_id")["zone_name"]
    sums = months.groupby("zone_id")["pickups"].sum()
    busiest = int(sums.idxmax())
    per_month = months[months["zone_id"] == busiest]
    best = per_month.loc[per_month["pickups"].idxmax()]
    sentence = (
        f"{names.get(busiest, f'Zone {busiest}')}, the busiest of all, had the most in {format_month(best['month'])}, "
        f"with {format_count(best['pickups'])} pickups."
    )
    rows = [(f"{r.month:%Y-%m}", r.pickups) for r in per_month.itertuples()]
    data = frames.within_complete_months(frames.zone_months)
    data = data.assign(month=month_number(data["month"]))
    return Picture(
        "zone",
        "How have a zone's pickups changed?",
        sentence,
        Table(["Month", f"Pickups in {names.get(busiest, f'zone {busiest}')}"], rows),
        [Panel(charts.zone_history("zone_months", busiest))],
        data={"zone_months": data},
    )


def payment_types(frames: Frames) -> Picture | None:
    """Show payment types by month, as shares of the trips."""
    payments = frames.within_complete_months(frames.payments)
    if payments.empty:
        return None
    names = _kinds(payments, "payment_type_name")
    sums = payments.groupby("payment_type_name")["trips"].sum().sort_values(ascending=False)
    shares = [f"{format_percent(trips / sums.sum())} {name.lower()}" for name, trips in sums[:3].items()]
    data = _merge_kinds(payments, "payment_type_name", names)
    data = data.groupby(["month", "kind"], as_index=False)["trips"].sum()
    data["month"] = month_number(data["month"])
    table = Table(
        ["Month", "Paid by", "Trips", "Revenue"],
        [(f"{r.month:%Y-%m}", r.payment_type_name, r.trips, r.total_amount) for r in payments.itertuples()],
        frozenset({3}),
    )
    return Picture(
        "payments",
        "How do people pay?",
        f"Over all months: {format_list(shares)}.",
        table,
        [Panel(charts.payment_shares("payments", names))],
        data={"payments": data},
        wide=False,
    )


def tips(frames: Frames) -> Picture | None:
    """Show tips by payment type, as a share of the fare."""
    payments = frames.within_complete_months(frames.payments)
    if payments.empty:
        return None
    names = _kinds(payments, "payment_type_name")
    data = _merge_kinds(payments, "payment_type_name", names)
    measures = ["trips", "fare_amount", "tip_amount"]
    sums = payments.groupby("payment_type_name", as_index=False)[measures].sum().sort_values("tip_amount")
    most = sums.iloc[-1]
    if most["tip_amount"] <= 0 or most["fare_amount"] <= 0:
        sentence = "No tips are recorded."
    else:
        share, amount = most["tip_amount"] / most["fare_amount"], most["tip_amount"] / most["trips"]
        sentence = (
            f"{most['payment_type_name']}: tips add {format_percent(share)} to the fare, {format_money(amount)} a trip."
        )
    data = data.groupby(["month", "kind"], as_index=False)[measures].sum()
    data["tip_share"] = (data["tip_amount"] / data["fare_amount"]).where(data["fare_amount"] > 0)
    data["tip_per_trip"] = data["tip_amount"] / data["trips"]
    data["month"] = month_number(data["month"])
    data = _with_gaps(data[["month", "kind", "tip_share", "tip_per_trip"]], by=["kind"])
    table = Table(
        ["Month", "Paid by", "Trips", "Fares", "Tips", "Tips by fares"],
        [
            (
                f"{r.month:%Y-%m}",
                r.payment_type_name,
                r.trips,
                r.fare_amount,
                r.tip_amount,
                r.tip_amount / r.fare_amount if r.fare_amount > 0 else None,
            )
            for r in payments.itertuples()
        ],
        frozenset({3, 4}),
        frozenset({5}),
    )
    return Picture(
        "tips",
        "How much do people tip?",
        sentence,
        table,
        [Panel(charts.tip_lines("tips", names))],
        "Tips in cash are not recorded: the line of cash is at zero because nobody writes them down.",
        {"tips": data},
        wide=False,
    )


def typical_ride(frames: Frames) -> Picture | None:
    """Show distance, duration and dollars per mile by month."""
    months = frames.within_complete_months(frames.months)
    measures = ["miles_per_trip", "minutes_per_trip", "dollars_per_mile"]
    known = months.dropna(subset=measures)
    if months[measures].isna().all(axis=None):
        return None
    sentence = "No month has distances and durations."
    if not known.empty:
        last, first = known.iloc[-1], known.iloc[0]
        sentence = (
            f"In {format_month(last['month'])} a ride is {last['miles_per_trip']:.1f} miles long, takes "
            f"{last['minutes_per_trip']:.0f} minutes and costs {format_money(last['dollars_per_mile'])} a mile"
        )
        if len(known) > 1:
            sentence += (
                f"; in {format_month(first['month'])} it was {first['miles_per_trip']:.1f} miles, "
                f"{first['minutes_per_trip']:.0f} minutes and {format_money(first['dollars_per_mile'])}"
            )
        sentence += "."
    data = months[["month", *measures]].assign(month=month_number(months["month"]))
    data = _with_gaps(data)
    table = Table(
        ["Month", "Miles per trip", "Minutes per trip", "Dollars per mile"],
        [(f"{r.month:%Y-%m}", *(_value(getattr(r, m)) for m in measures)) for r in months.itertuples()],
        frozenset({3}),
    )
    panels = [
        Panel(charts.month_line("rides", "miles_per_trip", "Miles per trip", ".1f"), "Miles per trip"),
        Panel(charts.month_line("rides", "minutes_per_trip", "Minutes per trip", ".0f"), "Minutes per trip"),
        Panel(charts.month_line("rides", "dollars_per_mile", "Dollars per mile", "$.2f"), "Dollars per mile"),
    ]
    note = (
        "Miles and dollars a mile are averages over the trips with a reliable distance, minutes over those with a "
        "reliable duration."
    )
    return Picture("rides", "What is a ride like?", sentence, table, panels, note, {"rides": data})


def quality(frames: Frames) -> Picture | None:
    """Show the flags and rejection reasons of each file's rows, as shares of the file."""
    found = frames.quality.merge(frames.pipeline[["source_month", "raw_rows"]], on="source_month")
    found = found[found["raw_rows"] > 0]
    sums = found.groupby(["kind", "name"], as_index=False)["trips"].sum()
    sums = sums[sums["trips"] > 0].sort_values(["kind", "trips"], ascending=[True, False])
    if found.empty:
        return None
    rows_of_files = frames.pipeline["raw_rows"].sum()
    rejected = int(frames.pipeline["rejected_rows"].sum())
    share = format_percent(rejected / rows_of_files)
    sentence = f"Of {format_count(rows_of_files)} rows {format_count(rejected)} are rejected ({share})"
    if not (flags := sums[sums["kind"] == "flag"]).empty:
        top = flags.iloc[0]
        sentence += f"; the most common flag is “{top['name']}”, on {format_percent(top['trips'] / rows_of_files)}"
    sentence += "."
    kinds = list(_title_findings(sums))
    data = found.assign(
        month=month_number(found["source_month"]),
        kind=_title_findings(found),
        share=found["trips"] / found["raw_rows"],
    )
    table = Table(
        ["File of", "Finding", "Rows", "Share of the file"],
        [(f"{r.source_month:%Y-%m}", r.kind, r.trips, r.share) for r in data.itertuples()],
        shares=frozenset({3}),
    )
    panels = [Panel(charts.share_bars("quality", title), title[:1].upper() + title[1:]) for title in kinds]
    note = "Each picture has its own scale. Flagged trips count. Rejected rows do not, and stay in rejected_trips."
    data = data[data["kind"].isin(kinds)][["month", "kind", "trips", "share"]]
    return Picture("quality", "What is odd about the rows?", sentence, table, panels, note, {"quality": data})


def _title_findings(findings: pd.DataFrame) -> pd.Series:
    """Return the title of each flag or rejection reason."""
    return findings["kind"].map({"flag": "", "rejected": "Rejected: "}) + findings["name"]


def pipeline(frames: Frames) -> Picture | None:
    """Show the row counts of every month from the TLC's file to the facts."""
    files = frames.pipeline
    if files.empty:
        return None
    adds_up = (files["file_rows"] == files["raw_rows"]) & (
        files["raw_rows"] == files["fact_rows"] + files["rejected_rows"]
    )
    if adds_up.all():
        rows = format_count(files["file_rows"].sum())
        sentence = (
            f"All {len(files)} files are loaded in full: {rows} rows published, as many loaded, and every one of them "
            "a trip that counts or rejected with its reasons."
            if len(files) > 1
            else f"The file is loaded in full: {rows} rows, each one counted or rejected."
        )
    else:
        wrong = [f"{month:%Y-%m}" for month in files["source_month"][~adds_up]]
        sentence = f"In {len(wrong)} of {len(files)} files the rows do not add up: {format_list(wrong[:6])}."
        sentence += " Run taxi backfill for these months." if len(wrong) <= 6 else " The table has all of them."
    table = Table(
        [
            "File of",
            "Published",
            "Loaded",
            "File",
            "Rows in file",
            "raw_trips",
            "fct_trips",
            "Rejected",
            "Adds up",
            "Checks passed",
        ],
        [
            (
                f"{r.source_month:%Y-%m}",
                _moment(r.published_at),
                _moment(r.loaded_at),
                f"{r.file} ({r.sha256[:8]})" if r.sha256 else r.file,
                r.file_rows,
                r.raw_rows,
                r.fact_rows,
                r.rejected_rows,
                "yes" if ok else "no",
                f"{r.checks_passed} of {r.checks}" if pd.notna(r.checks) else None,
            )
            for r, ok in zip(files.itertuples(), adds_up, strict=True)
        ],
    )
    years = range(int(files["source_month"].dt.year.min()), int(files["source_month"].dt.year.max()) + 1)
    by_month = {r.source_month: r for r in files.assign(adds_up=adds_up).itertuples()}
    squares = []
    for month in pd.date_range(f"{years[0]}-01-01", f"{years[-1]}-12-01", freq="MS"):
        file = by_month.get(month)
        squares.append(
            {
                "year": month.year,
                "month_of_year": month.month,
                "state": "Not loaded" if file is None else "Adds up" if file.adds_up else "Does not add up",
                "sign": "" if file is None else "✓" if file.adds_up else "!",
                "name": format_month(month),
                "rows": "–" if file is None else f"{file.file_rows:,}",
                "loaded": "–" if file is None else _moment(file.loaded_at) or "–",
            }
        )
    return Picture(
        "pipeline",
        "Is every month in, and whole?",
        sentence,
        table,
        [Panel(charts.month_grid("files", list(years)))],
        "Adds up: rows in the file = rows of raw_trips = rows of fct_trips + rejected rows, as the month's last build "
        "counted them; taxi status counts them now. Times are New York's.",
        {"files": pd.DataFrame(squares)},
    )


def round_steps(values: pd.Series) -> list[float]:
    """Return six ascending thresholds, of two digits each, between seven classes of about equal size."""
    steps: list[float] = []
    for quantile in values.quantile([i / 7 for i in range(1, 7)]):
        step = float(f"{quantile:.2g}")
        steps.append(max(step, steps[-1] + 1) if steps else max(step, 1.0))
    return steps


def _kinds(frame: pd.DataFrame, column: str) -> list[str]:
    """Return the names with a colour each, the most frequent first, and "Other" if there are more names."""
    names = [str(name) for name in frame.groupby(column)["trips"].sum().sort_values(ascending=False).index]
    return names if len(names) <= MOST_KINDS else [*names[: MOST_KINDS - 1], "Other"]


def _merge_kinds(frame: pd.DataFrame, column: str, names: Sequence[str]) -> pd.DataFrame:
    return frame.assign(kind=frame[column].where(frame[column].isin(names), "Other"))


def _with_gaps(frame: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Add the missing months without values, so that a line breaks there; for each combination of `by`."""
    every = pd.RangeIndex(frame["month"].min(), frame["month"].max() + 1, name="month")
    index = pd.MultiIndex.from_product([every, *(frame[name].unique() for name in by)], names=["month", *by])
    return frame.set_index(["month", *by]).reindex(index if by else every).reset_index()


def _value(value: float) -> float | None:
    return None if pd.isna(value) else value


def _moment(moment: pd.Timestamp) -> str | None:
    return None if pd.isna(moment) else format_moment(moment)
