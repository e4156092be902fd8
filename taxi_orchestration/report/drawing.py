"""Charts drawn: as SVG without a browser, and the scripts that draw them in one. Nothing is downloaded for either.

vl-convert carries Vega, Vega-Lite and Vega-Embed inside its wheel, and the interpreter that runs them.
"""

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import groupby
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from taxi_orchestration.report.charts import Chart
from taxi_orchestration.report.palette import LIGHT, with_colours

Column = Sequence[Any] | Mapping[str, Sequence[tuple[Any, int]]]

# The attributes of a mark that it takes from the group around it where it has none itself.
_INHERITED = {"fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "fill-opacity"}
VEGA_LITE = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def draw_svg(
    chart: Chart, data: Mapping[str, pd.DataFrame], width: int, palette: Mapping[str, str] | None = None
) -> str:
    """Draw a chart as SVG, `width` pixels wide inside its axes.

    Its colours are CSS variables, for a page; with a `palette` they are colours, for where there is none.
    """
    spec = to_spec(chart)
    spec["width"] = width
    # The reader's font may be wider than the one that is here.
    spec["config"]["padding"]["left"] += 14
    if aspect := spec.get("usermeta", {}).get("aspect"):
        spec["height"] = min(spec["height"], round(width * aspect))
    spec["datasets"] = {name: to_rows(frame) for name, frame in data.items()}
    svg = vl_convert.vegalite_to_svg(json.dumps(spec), vl_version=VEGA_LITE, allowed_base_urls=[])
    # Hundredths of a pixel are enough, and a third of the size of a calendar.
    svg = _hoist_attributes(re.sub(r"(\d\.\d\d)\d+", r"\1", svg))
    return with_colours(svg, palette) if palette else svg


def draw_markdown(chart: Chart, data: Mapping[str, pd.DataFrame], title: str, width: int = 700) -> str:
    """Draw a chart as an image in Markdown, on paper of its own: what shows it may be dark."""
    svg = draw_svg(chart, data, width, LIGHT).replace("<svg ", f'<svg style="background: {LIGHT["card"]}" ', 1)
    return f"![{title}](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})"


def to_spec(chart: Chart) -> dict[str, Any]:
    """The chart as Vega-Lite. Altair's validation would take most of a page's time; the tests have it."""
    return chart.to_dict(validate=False)


def _hoist_attributes(svg: str) -> str:
    """Say once, on the group around them, what all marks of a picture have: a calendar has 4,600."""

    def hoist(match: re.Match[str]) -> str:
        group, marks = match[1], match[2]
        of_marks = [set(re.findall(r' [\w-]+="[^"]*"', mark)) for mark in marks.split("/>") if mark]
        for attribute in sorted(set.intersection(*of_marks)):
            if attribute.split("=")[0].strip() in _INHERITED and f"{attribute.split('=')[0]}=" not in group:
                group, marks = group + attribute, marks.replace(attribute, "")
        return f"<g{group}>{marks}</g>"

    return re.sub(r"<g([^>]*)>((?:<path[^>]*/>){2,})</g>", hoist, svg)


def to_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a frame for JSON, what is missing as None."""
    return json.loads(frame.to_json(orient="records", double_precision=6))


def to_columns(frame: pd.DataFrame) -> dict[str, Column]:
    """The columns of a frame for JSON, what is missing as None: half the size of its rows.

    A column of a few long runs is an object instead of a list: its `runs`, each a value and how often it stands there.
    """
    split = json.loads(frame.to_json(orient="split", double_precision=6))
    columns = {name: [row[position] for row in split["data"]] for position, name in enumerate(split["columns"])}
    return {name: _to_runs(values) for name, values in columns.items()}


def _to_runs(values: list[Any]) -> Column:
    runs = [(value, len(list(same))) for value, same in groupby(values)]
    return {"runs": runs} if 4 * len(runs) < len(values) else values


@cache
def read_script() -> str:
    """The page's own script together with the libraries that it uses, as one module."""
    own = files("taxi_orchestration.report").joinpath("report.js").read_text(encoding="utf-8")
    return vl_convert.javascript_bundle(own, vl_version=VEGA_LITE)
