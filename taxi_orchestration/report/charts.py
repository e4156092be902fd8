"""The charts: plain rows in, Vega-Altair charts out. The selection of rows and the sentences belong to `pictures`.

Every chart refers to its rows (`alt.NamedData`) and its colours (CSS variables) by name. Months are counted from year 0
(`month_number`): the reader's time zone would shift a date. Parameters that the page sets: `first_month` and
`last_month`, and `payments`, the selected payment types.
"""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

import altair as alt

from taxi_orchestration.report.palette import CATEGORIES, STEPS

ALL_MONTHS = (0, 999_999)
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
# Fixed shares of all trips, so that maps of different months and measures are comparable by colour.
SHARE_STEPS = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03]
MEASURES = ("pickups", "dropoffs", "total_amount")
WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]

_MONTH = "datetime(floor(datum.month / 12), datum.month % 12, 1)"
_NEXT_MONTH = "datetime(floor(datum.month / 12), datum.month % 12 + 1, 1)"
_MONTH_NAME = f"timeFormat({_MONTH}, '%B %Y')"
_CHOSEN = "datum.month >= first_month && datum.month <= last_month"
_DATES: dict[str, Any] = {"grid": False, "tickCount": 6, "labelOverlap": True}
# A bar spans from its month to the next, so the label stands to the right of the tick.
_X_DATES = alt.X("date:T", title=None, axis=alt.Axis(**_DATES, labelAlign="left", labelFlush=False, labelBound=True))
# The gap between two bars, less than a pixel for narrow bars: a gap of one would halve a bar of two pixels.
_GAP = alt.expr("clamp(width / max(1, span(domain('x')) / 2.6e9) / 12, 0.2, 1)")
# The padding keeps a point on the first or last month from being clipped.
_X_POINTS = alt.X("date:T", title=None, axis=alt.Axis(**_DATES), scale=alt.Scale(padding=8))

Chart = alt.Chart | alt.LayerChart | alt.FacetChart
Channel = TypeVar("Channel", alt.Color, alt.Fill)
Position = TypeVar("Position", alt.X, alt.Y)


def monthly_bars(
    data: str,
    field: str,
    title: str,
    *,
    is_money: bool = False,
    brush: bool = False,
    chosen: tuple[int, int] = ALL_MONTHS,
) -> Chart:
    """Draw bars by month, with a mark for the year before.

    Rows: month, `field` and before_`field`. With `brush`, dragging across the bars selects months; bars
    outside the two months of `chosen` are pale.
    """
    figure = "$,.2f" if is_money else ",.0f"
    base = _by_month(data).transform_calculate(
        shown=f"format(datum['{field}'], '{figure}')",
        shown_before=f"isValid(datum['before_{field}']) ? format(datum['before_{field}'], '{figure}') : '–'",
    )
    tooltip = _tooltip(name="Month", shown=title, shown_before="Year before")
    bars = base.mark_bar(fill="var(--accent)", stroke="var(--page)", strokeWidth=_GAP, invalid=None).encode(
        x=_X_DATES,
        x2="end:T",
        y=alt.Y(f"{field}:Q", title=None, axis=_amount_axis(is_money)),
        y2="zero:Q",
        opacity=alt.condition(_CHOSEN, alt.value(1), alt.value(0.3)),
        tooltip=tooltip,
    )
    if brush:
        bars = bars.add_params(
            alt.selection_interval(
                name="brush",
                encodings=["x"],
                mark=alt.BrushConfig(fill="var(--ink)", fillOpacity=0.07, stroke="var(--ink)", strokeOpacity=0.4),
            )
        )
    before = base.mark_rule(strokeWidth=2, color="var(--before)").encode(x="date:T", x2="end:T", y=f"before_{field}:Q")
    return _finish(alt.layer(bars, before), 210).add_params(*_month_params(chosen))


def calendar(data: str, first_year: int, years: int, thresholds: Sequence[float]) -> Chart:
    """Draw a square for each day, seven weekdays for each year, darker for more trips, with a dot for the fee.

    Rows: month, day (of the month), row (the weekdays of all years, one below the other), week, trips, total_amount and
    has_fee.
    """
    labels = "floor(datum.value / 8) + " + str(first_year)
    base = (
        alt.Chart(alt.NamedData(name=data))
        .transform_filter(_CHOSEN)
        .transform_calculate(
            step=_step_of("datum.trips", thresholds),
            date="timeFormat(datetime(floor(datum.month / 12), datum.month % 12, datum.day), '%a, %d %b %Y')",
            amount="format(datum.total_amount, '$,.2f')",
            shown="format(datum.trips, ',')",
        )
        .encode(
            x=_squares(
                alt.X,
                "week",
                range(54),
                orient="top",
                values=[0, 4, 9, 13, 17, 22, 26, 30, 35, 39, 43, 48],
                labelExpr="timeFormat(datetime(2001, 0, 3 + datum.value * 7 + 4), '%b')",
                labelAlign="left",
                labelAngle=0,
                labelOverlap="greedy",
                labelSeparation=6,
            ),
            y=_squares(
                alt.Y, "row", range(years * 8), values=[year * 8 + 3 for year in range(years)], labelExpr=labels
            ),
            tooltip=_tooltip(date="Day", shown="Trips", amount="Revenue"),
        )
    )
    squares = base.mark_rect(stroke="var(--page)", strokeWidth=1).encode(
        color=_steps(alt.Color, "Trips a day", [f"{step:,.0f}" for step in thresholds])
    )
    # A light dot with a dark outline is visible on every step, in both modes.
    dots = base.transform_filter("datum.has_fee").mark_circle(
        size=14, fill="var(--page)", stroke="var(--ink)", strokeWidth=1, opacity=1
    )
    return _finish(alt.layer(squares, dots), years * 8 * 12).add_params(*_month_params())


def week(data: str, thresholds: Sequence[float]) -> Chart:
    """Draw a square for each hour of the week, darker for a greater share. Rows: month, weekday, hour, trips."""
    chart = (
        alt.Chart(alt.NamedData(name=data))
        .transform_filter(_CHOSEN)
        .transform_aggregate(trips="sum(trips)", groupby=["weekday", "hour"])
        .transform_joinaggregate(all="sum(trips)")
        .transform_calculate(
            share="datum.trips / datum.all",
            step=_step_of("datum.trips / datum.all", thresholds),
            day=f"{WEEKDAYS}[datum.weekday - 1]",
            from_to="datum.hour + ':00 to ' + (datum.hour + 1) + ':00'",
            shown="format(datum.trips, ',')",
            shown_share="format(datum.share, '.2%')",
        )
        .mark_rect(stroke="var(--page)", strokeWidth=1)
        .encode(
            x=_squares(
                alt.X, "hour", range(24), values=list(range(0, 24, 3)), labelExpr="datum.value + ':00'", labelAngle=0
            ),
            y=_squares(alt.Y, "day", WEEKDAYS),
            color=_steps(alt.Color, "Share of all trips", [f"{step:.1%}" for step in thresholds]),
            tooltip=_tooltip(day="Day", from_to="Hour", shown="Trips", shown_share="Share"),
        )
    )
    return _finish(chart, 190).add_params(*_month_params())


def zone_map(shapes: str, totals: str) -> Chart:
    """Draw a map of the zones by share of the parameter `measure`: pickups, drop-offs or revenue.

    Rows of `shapes`: GeoJSON features with the zone's number as id. Rows of `totals`: zone_id, zone_name, borough,
    pickups, dropoffs, total_amount, their shares as share_*, and shown.
    """
    percents = [step * 100 for step in SHARE_STEPS]
    zone = alt.selection_point(name="picked", fields=["id"], on="click", clear=False, empty=False)
    chart = (
        alt.Chart(alt.NamedData(name=shapes))
        .transform_lookup(
            "id",
            alt.LookupData(
                alt.NamedData(name=totals),
                "zone_id",
                ["zone_name", "borough", "shown", *MEASURES, *(f"share_{measure}" for measure in MEASURES)],
            ),
        )
        .transform_calculate(
            share="datum.shown ? datum['share_' + measure] : null",
            step=_step_of("datum['share_' + measure]", SHARE_STEPS),
            shown_share="isValid(datum.share) ? format(datum.share, datum.share < 0.001 ? '.1~%' : '.2%') : '–'",
            shown_pickups="format(datum.pickups, ',')",
            shown_dropoffs="format(datum.dropoffs, ',')",
            amount="format(datum.total_amount, '$,.2f')",
        )
        .mark_geoshape(strokeWidth=0.5)
        .project(type="identity", reflectY=True)
        .encode(
            fill=alt.condition(
                "isValid(datum.share) && datum.share > 0",
                _steps(alt.Fill, "Share of the whole city", [f"{step:.2g}%" for step in percents]),
                alt.value("var(--empty)"),
            ),
            stroke=alt.condition("datum.id == zone", alt.value("var(--before)"), alt.value("var(--page)")),
            strokeWidth=alt.condition("datum.id == zone", alt.value(2.5), alt.value(0.5)),
            tooltip=_tooltip(
                zone_name="Zone",
                borough="Borough",
                shown_pickups="Pickups",
                shown_dropoffs="Drop-offs",
                amount="Revenue",
                shown_share="Share",
            ),
        )
        .add_params(zone)
    )
    return _finish(chart, 640, aspect=0.98).add_params(_measure_param(), alt.param(name="zone", value=-1))


def place_bars(totals: str, *, by: str, top: int) -> Chart:
    """Draw the `top` places by the parameter `measure`. Rows as in `zone_map`; `by` is borough or zone_name."""
    groupby: list[str | alt.FieldName] = ["borough"] if by == "borough" else ["zone_id", "zone_name", "borough"]
    chart = (
        alt.Chart(alt.NamedData(name=totals))
        .transform_filter("datum.shown")
        .transform_calculate(value="datum[measure]", part="datum['share_' + measure]")
        .transform_aggregate(
            value="sum(value)",
            share="sum(part)",
            pickups="sum(pickups)",
            dropoffs="sum(dropoffs)",
            total_amount="sum(total_amount)",
            groupby=groupby,
        )
        .transform_window(rank="row_number()", sort=[alt.SortField("value", order="descending")])
        .transform_filter(f"datum.rank <= {top} && datum.value > 0")
        .transform_calculate(
            sign="measure == 'total_amount' ? '$' : ''",
            shown="datum.value >= 1e6 ? format(datum.value / 1e6, '.3~r') + ' million'"
            " : format(datum.value, datum.value < 1000 ? ',.0f' : ',.3r')",
            label="datum.sign + datum.shown + ' · ' + format(datum.share, '.1%')",
            shown_pickups="format(datum.pickups, ',')",
            shown_dropoffs="format(datum.dropoffs, ',')",
            amount="format(datum.total_amount, '$,.2f')",
            shown_share="format(datum.share, '.2%')",
            place="datum.borough" if by == "borough" else "datum.zone_id + '|' + datum.zone_name",
        )
    )
    base = chart.encode(
        y=alt.Y(
            "place:N",
            title=None,
            sort=alt.EncodingSortField("rank", op="min"),
            axis=alt.Axis(
                labelExpr="slice(datum.label, indexof(datum.label, '|') + 1)",
                labelLimit=185,
                domain=False,
                ticks=False,
                labelColor="var(--ink)",
            ),
        ),
    )
    highlight = "false" if by == "borough" else "datum.zone_id == zone"
    bars = base.mark_bar(height={"band": 0.72}, cornerRadiusEnd=1).encode(
        x=alt.X("value:Q", title=None, axis=None, scale=alt.Scale(range=[0, alt.expr("width - 120")], nice=False)),
        color=alt.condition(highlight, alt.value("var(--before)"), alt.value("var(--accent)")),
        tooltip=_tooltip(
            **{by: "Borough" if by == "borough" else "Zone"},
            shown_pickups="Pickups",
            shown_dropoffs="Drop-offs",
            amount="Revenue",
            shown_share="Share",
        ),
    )
    if by != "borough":
        bars = bars.add_params(
            alt.selection_point(name="picked", fields=["zone_id"], on="click", clear=False, empty=False)
        )
    labels = base.mark_text(align="left", dx=5, color="var(--muted)").encode(x="value:Q", text="label:N")
    height = {"borough": 7 * 26, "zone_name": top * 22}[by]
    return _finish(alt.layer(bars, labels), height).add_params(_measure_param(), alt.param(name="zone", value=-1))


def zone_history(data: str, zone: int) -> Chart:
    """Draw the pickups of one zone, the parameter `zone`, by month. Rows: month, zone_id, pickups."""
    chart = _by_month(data).transform_filter("datum.zone_id == zone")
    chart = chart.transform_calculate(shown="format(datum.pickups, ',')").encode(
        x=_X_DATES,
        x2="end:T",
        y=alt.Y("pickups:Q", title=None, axis=_amount_axis()),
        y2="zero:Q",
        tooltip=_tooltip(name="Month", shown="Pickups"),
    )
    bars = chart.mark_bar(color="var(--accent)", stroke="var(--page)", strokeWidth=_GAP)
    return _finish(bars, 150).add_params(alt.param(name="zone", value=zone))


def payment_shares(data: str, names: Sequence[str]) -> Chart:
    """Draw the shares of payment types by month as stacked bars in their colours. Rows: month, kind, trips."""
    bars = (
        _by_month(data)
        .transform_filter(_CHOSEN)
        .transform_filter("indexof(payments, datum.kind) >= 0")
        .transform_calculate(place=f"indexof({json.dumps(list(names))}, datum.kind)")
        .transform_joinaggregate(all="sum(trips)", groupby=["month"])
        .transform_calculate(
            share="datum.trips / datum.all",
            shown="format(datum.trips, ',')",
            shown_share="format(datum.share, '.1%')",
        )
        # The encoding's own stack is for bars at a point, and these bars span a month.
        .transform_stack(stack="share", as_=["low", "high"], groupby=["month"], sort=[alt.SortField("place")])
        .mark_bar(stroke="var(--page)", strokeWidth=_GAP)
        .encode(
            x=_X_DATES,
            x2="end:T",
            y=alt.Y("low:Q", title=None, axis=alt.Axis(format="%", tickCount=4), scale=alt.Scale(domain=[0, 1])),
            y2="high:Q",
            color=_category("kind", names),
            tooltip=_tooltip(name="Month", kind="Paid by", shown="Trips", shown_share="Share"),
        )
    )
    return _finish(bars, 240).add_params(*_month_params(), alt.param(name="payments", value=list(names)))


def tip_lines(data: str, names: Sequence[str]) -> Chart:
    """Draw tips as a share of the fare by month, a line for each payment type.

    Rows: month, kind, tip_share, tip_per_trip.
    """
    chart = (
        _by_month(data)
        .transform_filter(_CHOSEN)
        .transform_filter("indexof(payments, datum.kind) >= 0")
        .transform_calculate(
            shown="format(datum.tip_share, '.1%')", shown_trip="format(datum.tip_per_trip, '$.2f')", middle=_MONTH
        )
        .encode(
            x=_X_POINTS,
            y=alt.Y("tip_share:Q", title=None, axis=alt.Axis(format="%", tickCount=5)),
            color=_category("kind", names),
            tooltip=_tooltip(name="Month", kind="Paid by", shown="Tips per dollar of fare", shown_trip="Tip per trip"),
        )
    )
    params = [*_month_params(), alt.param(name="payments", value=list(names))]
    return _finish(_line_and_points(chart), 240).add_params(*params)


def month_line(data: str, field: str, title: str, figure: str) -> Chart:
    """Draw one figure by month as a line from zero that breaks at missing months. Rows: month, `field`."""
    chart = (
        _by_month(data)
        .transform_filter(_CHOSEN)
        .transform_calculate(shown=f"isValid(datum['{field}']) ? format(datum['{field}'], '{figure}') : '–'")
        .encode(
            x=_X_POINTS,
            y=alt.Y(
                f"{field}:Q",
                title=None,
                scale=alt.Scale(zero=True),
                axis=alt.Axis(format=figure, tickCount=4),
            ),
            color=alt.value("var(--accent)"),
            tooltip=_tooltip(name="Month", shown=title),
        )
    )
    return _finish(_line_and_points(chart), 150).add_params(*_month_params())


def share_bars(data: str, name: str) -> Chart:
    """Draw the share of a file's rows with one kind of finding, by month. Rows: month, kind, trips, share."""
    chart = (
        _by_month(data)
        .transform_filter(f"datum.kind == {json.dumps(name)}")
        .transform_filter(_CHOSEN)
        .transform_calculate(shown="format(datum.trips, ',')", shown_share="format(datum.share, '.3~%')")
        .mark_bar(color="var(--category-1)", stroke="var(--page)", strokeWidth=_GAP)
        .encode(
            x=_X_DATES,
            x2="end:T",
            y=alt.Y("share:Q", title=None, axis=alt.Axis(format="~%", tickCount=3)),
            y2="zero:Q",
            tooltip=_tooltip(name="File of", shown="Rows", shown_share="Share of the file"),
        )
    )
    return _finish(chart, 90).add_params(*_month_params())


def month_grid(data: str, years: Sequence[int]) -> Chart:
    """Draw a square for each month, a row for each year, with the state of the month's file as colour and sign.

    Rows: year, month_of_year (1 to 12), state, sign, name, rows, loaded.
    """
    states = ["Adds up", "Does not add up", "Not loaded"]
    base = alt.Chart(alt.NamedData(name=data)).encode(
        x=_squares(
            alt.X,
            "month_of_year",
            range(1, 13),
            orient="top",
            labelExpr="timeFormat(datetime(2001, datum.value - 1, 1), '%b')",
            labelAngle=0,
        ),
        y=_squares(alt.Y, "year", years),
        tooltip=_tooltip(name="Month", state="Rows", rows="In the file", loaded="Loaded"),
    )
    squares = base.mark_rect(stroke="var(--page)", strokeWidth=2, cornerRadius=3).encode(
        fill=alt.Color(
            "state:N",
            scale=alt.Scale(domain=states, range=["var(--good)", "var(--bad)", "var(--empty)"]),
            legend=alt.Legend(title=None, orient="bottom", symbolType="square"),
        )
    )
    signs = base.mark_text(color="var(--page)", fontWeight="bold", fontSize=11).encode(text="sign:N")
    return _finish(alt.layer(squares, signs), max(len(years), 1) * 24)


def _by_month(data: str) -> alt.Chart:
    return alt.Chart(alt.NamedData(name=data)).transform_calculate(
        date=_MONTH, end=_NEXT_MONTH, name=_MONTH_NAME, zero="0"
    )


def _line_and_points(chart: alt.Chart) -> Chart:
    """Draw a line, and a point for each month: a month between two missing months has no line."""
    return alt.layer(
        chart.mark_line(strokeWidth=2, interpolate="monotone", clip=True),
        chart.mark_point(filled=True, size=22, opacity=1, invalid="filter", clip=True),
    )


def _month_params(chosen: tuple[int, int] = ALL_MONTHS) -> list[Any]:
    return [alt.param(name="first_month", value=chosen[0]), alt.param(name="last_month", value=chosen[1])]


def _measure_param() -> Any:
    return alt.param(name="measure", value="pickups")


def _squares(position: type[Position], field: str, domain: Sequence[Any], **axis: Any) -> Position:
    """Return one axis of a grid of adjacent squares, with a square for each value of `domain`."""
    return position(
        f"{field}:O",
        title=None,
        scale=alt.Scale(domain=list(domain), padding=0),
        axis=alt.Axis(**axis, domain=False, ticks=False),
    )


def _tooltip(**titles: str) -> list[alt.Tooltip]:
    """Return the tooltip that shows these fields, each under its title."""
    return [alt.Tooltip(f"{field}:N", title=title) for field, title in titles.items()]


def _amount_axis(is_money: bool = False) -> alt.Axis:
    """Return an axis of counts or dollars in thousands and millions: 60k, $1.5M."""
    return alt.Axis(labelExpr=f"format(datum.value, '{'$' if is_money else ''}~s')", tickCount=4)


def _category(field: str, names: Sequence[str]) -> alt.Color:
    scale = alt.Scale(domain=list(names), range=[CATEGORIES[i % len(CATEGORIES)] for i in range(len(names))])
    legend = alt.Legend(title=None, orient="top", symbolType="square", columns=3, labelLimit=200)
    return alt.Color(f"{field}:N", scale=scale, legend=legend)


def _step_of(value: str, thresholds: Sequence[float]) -> str:
    """Return a Vega expression for the class of a value, counted from 0."""
    return " + ".join(f"({value} >= {threshold} ? 1 : 0)" for threshold in thresholds)


def _steps(channel: type[Channel], title: str, labels: Sequence[str]) -> Channel:
    """Return the colours of seven classes, equally wide in the legend, with a label between each two."""
    return channel(
        "step:Q",
        scale=alt.Scale(type="threshold", domain=list(range(1, len(labels) + 1)), range=STEPS),
        legend=alt.Legend(
            title=title,
            orient="bottom",
            direction="horizontal",
            labelExpr=f"{json.dumps(list(labels))}[datum.value - 1]",
        ),
    )


def _finish(chart: Chart, height: float, *, aspect: float | None = None) -> Chart:
    """Apply the report's style to a chart, with the width of its container.

    `aspect` is the ratio of height to width, up to `height`; the page applies it once the width is known.
    """
    text = {"labelColor": "var(--muted)", "titleColor": "var(--muted)", "labelFontSize": 12, "titleFontSize": 12}
    finished = chart.properties(width="container", height=height).configure(
        # A sentence of the page describes the picture; screen readers would read a label for each of 4,600 squares.
        aria=False,
        background="transparent",
        font=FONT,
        padding={"left": 0, "right": 6, "top": 4, "bottom": 4},
        view={"stroke": None},
        text={"fontSize": 12},
        axis={**text, "gridColor": "var(--rule)", "domainColor": "var(--rule)", "tickColor": "var(--rule)"},
        axisY={"domain": False, "ticks": False, "labelPadding": 6},
        legend={
            **text,
            "titleFontWeight": "normal",
            "gradientLength": 320,
            "gradientThickness": 10,
            "gradientStrokeWidth": 0,
            "symbolStrokeWidth": 0,
        },
    )
    if aspect:
        finished.usermeta = {"aspect": aspect}
    return finished
