"""The colours of the report by meaning, for light and dark mode.

Charts refer to colours as CSS variables (`var(--ink)`), so that one picture works in both modes. The hues of the
categories are those of Okabe and Ito, each dark or light enough for contrast with its background.
"""

import re
from collections.abc import Mapping

LIGHT: Mapping[str, str] = {
    "page": "#fbfaf6",
    "card": "#ffffff",
    "ink": "#20231f",
    "muted": "#5b5f57",
    "rule": "#e3e1d8",
    "accent": "#0f7049",
    "before": "#a8480a",
    "empty": "#eceae2",
    "category-1": "#17588f",
    "category-2": "#d4700a",
    "category-3": "#12996f",
    "category-4": "#c2559c",
    "category-5": "#5a4100",
    "category-6": "#5a5b57",
    "step-1": "#e3efdf",
    "step-2": "#c2e0bd",
    "step-3": "#93cc9b",
    "step-4": "#5bb07d",
    "step-5": "#2b9162",
    "step-6": "#0f7049",
    "step-7": "#064a31",
    "good": "#12805a",
    "bad": "#c0392b",
}
DARK: Mapping[str, str] = {
    "page": "#141613",
    "card": "#1b1e1a",
    "ink": "#eceee8",
    "muted": "#a9aea3",
    "rule": "#343830",
    "accent": "#55ae79",
    "before": "#f0a35c",
    "empty": "#2a2d28",
    "category-1": "#4aa3f0",
    "category-2": "#e0a030",
    "category-3": "#2fd39b",
    "category-4": "#e88cc8",
    "category-5": "#f3ec6a",
    "category-6": "#84857f",
    "step-1": "#22352b",
    "step-2": "#235240",
    "step-3": "#237052",
    "step-4": "#2f8f64",
    "step-5": "#55ae79",
    "step-6": "#8ccd97",
    "step-7": "#c9ecc0",
    "good": "#4cc18f",
    "bad": "#ff8a75",
}
CATEGORIES = [f"var(--category-{number})" for number in range(1, 7)]
STEPS = [f"var(--step-{number})" for number in range(1, 8)]


def with_colours(text: str, palette: Mapping[str, str]) -> str:
    """Replace the CSS variables of a picture by the colours of one palette, for use outside a page."""
    return re.sub(r"var\(--([a-z0-9-]+)\)", lambda match: palette[match[1]], text)
