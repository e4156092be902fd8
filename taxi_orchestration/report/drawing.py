"""Charts drawn as SVG without a browser, and the scripts that draw charts in a browser. Both need no download.

The wheel of vl-convert contains Vega, Vega-Lite, Vega-Embed and the interpreter that runs them.
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

# The attributes that a mark without them inherits from its group.
_INHERITED = {"fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "fill-opacity"}
VEGA_LITE = ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def draw_svg(
    chart: Chart, data: Mapping[str, pd.DataFrame], width: int, palette: Mapping[str, str] | None = None
) -> str:
    """Draw a chart as SVG, `width` pixels wide inside its axes.

    Colours are CSS variables, for a page; with a `palette` they are literal colours, for use outside a page.
    """
    spec = to_spec(chart)
    spec["width"] = width
    # The font of the reader's browser may be wider than the font of this machine.
    spec["config"]["padding"]["left"] += 14
    if aspect := spec.get("usermeta", {}).get("aspect"):
        spec["height"] = min(spec["height"], round(width * aspect))
    spec["datasets"] = {name: to_rows(frame) for name, frame in data.items()}
    svg = vl_convert.vegalite_to_svg(json.dumps(spec), vl_version=VEGA_LITE, allowed_base_urls=[])
    # Rounded to hundredths of a pixel, a calendar takes a third of its size.
    svg = _hoist_attributes(re.sub(r"(\d\.\d\d)\d+", r"\1", svg))
    return with_colours(svg, palette) if palette else svg


def draw_markdown(chart: Chart, data: Mapping[str, pd.DataFrame], title: str, width: int = 700) -> str:
    """Draw a chart as an image in Markdown, with a light background: the UI around the image may be dark."""
    svg = draw_svg(chart, data, width, LIGHT).replace("<svg ", f'<svg style="background: {LIGHT["card"]}" ', 1)
    return f"![{title}](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})"


def to_spec(chart: Chart) -> dict[str, Any]:
    """Convert a chart to Vega-Lite. Without Altair's validation, which takes most of a page's time; tests validate."""
    return chart.to_dict(validate=False)


def _hoist_attributes(svg: str) -> str:
    """Move attributes that all marks of a group share to the group: a calendar has 4,600 marks."""

    def hoist(match: re.Match[str]) -> str:
        group, marks = match[1], match[2]
        of_marks = [set(re.findall(r' [\w-]+="[^"]*"', mark)) for mark in marks.split("/>") if mark]
        for attribute in sorted(set.intersection(*of_marks)):
            if attribute.split("=")[0].strip() in _INHERITED and f"{attribute.split('=')[0]}=" not in group:
                group, marks = group + attribute, marks.replace(attribute, "")
        return f"<g{group}>{marks}</g>"

    return re.sub(r"<g([^>]*)>((?:<path[^>]*/>){2,})</g>", hoist, svg)


def to_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Convert a frame to rows for JSON, with None for missing values."""
    return json.loads(frame.to_json(orient="records", double_precision=6))


def to_columns(frame: pd.DataFrame) -> dict[str, Column]:
    """Convert a frame to columns for JSON, with None for missing values: half the size of the rows.

    A column of a few long runs is an object instead of a list: its `runs`, each a value and the length of the run.
    """
    split = json.loads(frame.to_json(orient="split", double_precision=6))
    columns = {name: [row[position] for row in split["data"]] for position, name in enumerate(split["columns"])}
    return {name: _to_runs(values) for name, values in columns.items()}


def _to_runs(values: list[Any]) -> Column:
    runs = [(value, len(list(same))) for value, same in groupby(values)]
    return {"runs": runs} if 4 * len(runs) < len(values) else values


@cache
def read_script() -> str:
    """Return the page's own script together with the libraries of the script, as one module."""
    own = files("taxi_orchestration.report").joinpath("report.js").read_text(encoding="utf-8")
    return vl_convert.javascript_bundle(own, vl_version=VEGA_LITE)
