"""Lines over an axis, as PNG: drawn by what draws the report, so that plots need no package more."""

from collections.abc import Mapping
from io import BytesIO

import altair as alt
import vl_convert
from PIL import Image

from taxi_orchestration.report.drawing import VEGA_LITE


def line_plot(
    lines: Mapping[str, Mapping[int, float]], x: str, y: str, *, log_x: bool = False, log_y: bool = False
) -> bytes:
    """Draw a line by name through its figures by place on the axis `x`; `x` and `y` are the titles of the axes.

    An axis that is not logarithmic begins at 0.
    """
    values = [{"line": name, "x": at, "y": figure} for name, line in lines.items() for at, figure in line.items()]
    chart = (
        alt.Chart(alt.InlineData(values=values), width=640, height=340)
        .mark_line(point=True)
        .encode(
            x=alt.X("x:Q", title=x, scale=alt.Scale(type="log" if log_x else "linear")),
            y=alt.Y("y:Q", title=y, scale=alt.Scale(type="log" if log_y else "linear")),
            color=alt.Color("line:N", title=None, sort=None, legend=alt.Undefined if len(lines) > 1 else None),
        )
    )
    return _small(vl_convert.vegalite_to_png(chart.to_json(), vl_version=VEGA_LITE, scale=1.5, allowed_base_urls=[]))


def _small(png: bytes) -> bytes:
    """Return a picture of lines with as few colours as it needs: a tenth of the bytes."""
    file = BytesIO()
    Image.open(BytesIO(png)).convert("RGB").quantize(32).save(file, "png", optimize=True)
    return file.getvalue()
