"""The page: pictures in one HTML file that works as a mail attachment, without a network and without JavaScript.

With JavaScript the pictures are drawn again in the available width and follow the controls of the page.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from taxi_orchestration.report import pictures
from taxi_orchestration.report.drawing import draw_svg, read_script, to_columns, to_spec
from taxi_orchestration.report.formats import format_count, format_moment, format_money, format_month
from taxi_orchestration.report.frames import Frames
from taxi_orchestration.report.palette import DARK, LIGHT
from taxi_orchestration.report.pictures import Picture, Table, month_number
from taxi_orchestration.tlc.dataset import DATASET

TITLE = f"New York {DATASET.label}, month by month"


@dataclass(frozen=True)
class Chapter:
    """Pictures under one heading; `name` also selects the controls of the page above the pictures."""

    name: str
    heading: str
    pictures: Sequence[Callable[[Frames], Picture | None]]


CHAPTERS = [
    Chapter(
        "much",
        "How much",
        [pictures.trips_by_month, pictures.revenue_by_month, pictures.calendar_of_days, pictures.week_of_hours],
    ),
    Chapter("where", "Where", [pictures.map_of_zones, pictures.top_zones, pictures.boroughs, pictures.history_of_zone]),
    Chapter("ride", "The ride and its price", [pictures.typical_ride, pictures.payment_types, pictures.tips]),
    Chapter("trust", "Can it be trusted", [pictures.pipeline, pictures.quality]),
]


def render_page(frames: Frames) -> str:
    """Render the report as one HTML document."""
    chapters = [(chapter, [p for make in chapter.pictures if (p := make(frames))]) for chapter in CHAPTERS]
    shown = [picture for _, made in chapters for picture in made]
    data = {name: frame for picture in shown for name, frame in picture.data.items()}
    charts = {
        f"{picture.name}-{position}": to_spec(panel.chart)
        for picture in shown
        for position, panel in enumerate(picture.panels)
    }
    months = frames.within_complete_months(frames.months)
    totals = data.get("totals")
    environment = Environment(
        loader=PackageLoader("taxi_orchestration.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "ensure_ascii": False}
    return environment.get_template("page.html.j2").render(
        title=TITLE,
        lead=_lead(frames),
        figures=_figures(frames),
        chapters=[(chapter, made) for chapter, made in chapters if made],
        months=list(zip(month_number(months["month"]), months["month"].map(format_month), strict=True)),
        boroughs=[]
        if totals is None
        else list(totals.groupby("borough")["pickups"].sum().sort_values(ascending=False).index),
        payments=list(data["payments"].groupby("kind")["trips"].sum().sort_values(ascending=False).index)
        if "payments" in data
        else [],
        zones=[]
        if totals is None
        else list(totals.sort_values("zone_name")[["zone_id", "zone_name", "pickups"]].itertuples()),
        left_out=_left_out(frames),
        made_at=format_moment(frames.made_at),
        cells=_cells,
        svg=lambda picture, panel: Markup(draw_svg(panel.chart, picture.data, _width(picture))),  # noqa: S704
        payload={"data": {name: to_columns(frame) for name, frame in data.items()}, "charts": charts},
        light=LIGHT,
        dark=DARK,
        style=Markup(files("taxi_orchestration.report").joinpath("report.css").read_text(encoding="utf-8")),  # noqa: S704
        script=Markup(read_script()),  # noqa: S704
    )


def _lead(frames: Frames) -> str:
    months = frames.complete_months
    if months.empty:
        return "No month is loaded and built yet. Do both with: make backfill FROM=2024-01 TO=2024-03"
    if len(months) == 1:
        return f"What the TLC published of {DATASET.label}s in {format_month(months.iloc[0])}."
    span = f"between {format_month(months.iloc[0])} and {format_month(months.iloc[-1])}"
    return f"What the TLC published of {DATASET.label}s in {len(months)} months {span}."


def _figures(frames: Frames) -> list[tuple[str, str]]:
    """Return the figures at the top of the page, each with its name."""
    months = frames.within_complete_months(frames.months)
    if months.empty:
        return []
    trips, amount = int(months["trips"].sum()), months["total_amount"].sum()
    figures = [("trips", format_count(trips)), ("revenue, refunds taken off", format_money(amount))]
    if trips:
        figures.append(("a trip", format_money(amount / trips)))
    last = months.iloc[-1]
    figures.append(
        (f"trips a day in {format_month(last['month'])}", format_count(last["trips"] / last["month"].days_in_month))
    )
    return figures


def _left_out(frames: Frames) -> str:
    """Return a sentence on the trips that the marts have and the pictures omit, so that the totals add up."""
    months = frames.months[~frames.months["month"].isin(frames.complete_months)]
    trips = int(months["trips"].sum())
    if not trips:
        return ""
    subject = "1 trip has its" if trips == 1 else f"{trips:,} trips have their"
    amount = f"${months['total_amount'].sum():,.2f}"
    return (
        f"{subject} pickup in a month whose file is not loaded and built ({amount}): the marts have them, the pictures "
        "do not."
    )


def _width(picture: Picture) -> int:
    """Return the width of a picture in pixels for a page without JavaScript."""
    return {1: 900 if picture.wide else 440}.get(len(picture.panels), 260)


def _cells(table: Table, row: Sequence[Any]) -> list[tuple[str, bool]]:
    """Format a row as texts, each with whether it is a number."""
    return [_cell(value, i in table.money, i in table.shares) for i, value in enumerate(row)]


def _cell(value: Any, is_money: bool, is_share: bool) -> tuple[str, bool]:
    if value is None:
        return "–", True
    if isinstance(value, str):
        return value, False
    if is_money:
        return f"{'-' if value < 0 else ''}${abs(value):,.2f}", True
    if is_share:
        return f"{value:.2%}", True
    return (f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"), True
