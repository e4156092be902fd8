"""The chart of the volume check: a month's rows beside those of the preceding months, in the report's style."""

from collections.abc import Mapping
from datetime import date

import pandas as pd

from taxi_orchestration.report import charts
from taxi_orchestration.report.drawing import draw_markdown
from taxi_orchestration.report.formats import format_month
from taxi_orchestration.report.pictures import month_number, with_year_before

WIDTH = 600


def draw_volume(rows_by_month: Mapping[date, int]) -> str:
    """Draw rows by month as Markdown; the last month stands out."""
    frame = pd.DataFrame({"month": pd.to_datetime(list(rows_by_month)), "rows": list(rows_by_month.values())})
    months = with_year_before(frame, ["rows"])
    months["month"] = month_number(months["month"])
    month, last = max(rows_by_month), int(months["month"].max())
    chart = charts.monthly_bars("months", "rows", "Rows", chosen=(last, last))
    note = "The orange line is the same month a year before." if months["before_rows"].notna().any() else ""
    image = draw_markdown(chart, {"months": months}, f"Rows by month to {format_month(month)}", WIDTH)
    return f"{image}\n\n{note}".strip()
