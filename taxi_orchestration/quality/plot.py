"""A small bar chart as a Markdown image, without a plotting library: every run would have to import it."""

from base64 import b64encode
from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT, BAR = 600, 120, 0.7


def bars(values: Sequence[tuple[str, int]], title: str) -> str:
    """Bars with their labels as hovering titles; the last one stands out, and is what the chart is about."""
    top = max((value for _, value in values), default=0) or 1
    step = WIDTH / max(len(values), 1)
    shapes = []
    for position, (label, value) in enumerate(values):
        height = (HEIGHT - 20) * value / top
        colour = "#d9480f" if position == len(values) - 1 else "#74a9cf"
        shapes.append(
            f'<rect x="{position * step:.1f}" y="{HEIGHT - height:.1f}" width="{step * BAR:.1f}" height="{height:.1f}" '
            f'fill="{colour}"><title>{escape(label)}: {value:,}</title></rect>'
        )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" '
        f'font-size="12">'
        f'<text x="0" y="12" fill="#888">{escape(title)} (highest: {top:,})</text>{"".join(shapes)}</svg>'
    )
    return f"![{title}](data:image/svg+xml;base64,{b64encode(svg.encode()).decode()})"
