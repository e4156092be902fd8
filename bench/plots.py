"""Line charts as PNG, drawn by the library of the report, so that plots need no further package."""

from collections.abc import Mapping
from io import BytesIO

import altair as alt
import vl_convert
from PIL import Image

from taxi_orchestration.report.drawing import VEGA_LITE


def line_plot(
    lines: Mapping[str, Mapping[int, float]], x: str, y: str, *, log_x: bool = False, log_y: bool = False
) -> bytes:
    """Return a chart of `lines`: by name, the figures by position on the x axis. `x` and `y` are the axis titles.

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
    png = vl_convert.vegalite_to_png(chart.to_json(), vl_version=VEGA_LITE, scale=1.5, allowed_base_urls=[])
    return _reduce_colours(png)


def _reduce_colours(png: bytes) -> bytes:
    """Return the picture with 32 colours, enough for lines and a tenth of the bytes."""
    file = BytesIO()
    Image.open(BytesIO(png)).convert("RGB").quantize(32).save(file, "png", optimize=True)
    return file.getvalue()
