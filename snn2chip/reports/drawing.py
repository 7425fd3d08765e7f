"""Matplotlib figures as inline SVG that follow the page's colours and carry real text.

Ink is drawn in one reserved colour that becomes `currentColor`; ids are made unique per figure, as many share a page.
"""

from __future__ import annotations

import io
import re
from typing import Any

INK = "#010203"
FAINT = "#040506"
PALETTE = ("#3b82c4", "#d97706", "#2f9e6e", "#d1495b", "#8b6fc0", "#8a8f98", "#0e9aa7", "#b5651d", "#c2569b", "#6b8e23")
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "snn2chip",
    "svg.image_inline": True,
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": None,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


class Sheet:
    """One figure: `with Sheet(3.4, 2.2) as (sheet, ax): ...; sheet.svg("what it shows")`.

    `fixed` margins take a third of the time of fitted ones; they suit small figures with short labels.
    """

    made = 0

    def __init__(self, width: float, height: float, *, fixed: bool = False) -> None:
        from cycler import cycler
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        settings: Any = {**SETTINGS, "axes.prop_cycle": cycler(color=PALETTE)}
        self.context = rc_context(settings)
        self.context.__enter__()
        self.figure = Figure(figsize=(width, height), layout=None if fixed else "constrained")
        FigureCanvasSVG(self.figure)
        self.axes: Any = self.figure.subplots()
        if fixed:
            self.figure.subplots_adjust(left=0.21, right=0.97, bottom=0.23, top=0.88)

    def __enter__(self) -> tuple[Sheet, Any]:
        return self, self.axes

    def __exit__(self, *error: object) -> None:
        self.context.__exit__(None, None, None)

    def svg(self, label: str) -> str:
        """The figure as an `<svg>` element, `label` being read to those who do not see it."""
        from html import escape

        text = io.StringIO()
        self.figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
        body = text.getvalue()
        body = body[body.index("<svg") :]
        body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
        Sheet.made += 1
        mark = f"f{Sheet.made}-"
        body = re.sub(r'\bid="', f'id="{mark}', body)
        body = body.replace("url(#", f"url(#{mark}").replace('xlink:href="#', f'xlink:href="#{mark}')
        body = re.sub(r' xmlns(:xlink)?="[^"]*"', "", body)  # HTML knows both by itself
        body = body.replace(INK, "currentColor").replace(FAINT, "var(--faint)")
        body = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", body, count=1)
        body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
        body = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--font)", body)
        wide = self.figure.get_figwidth() * 96
        size = f"max-width:{wide:.0f}px;min-width:{min(wide, 0.75 * max(wide, 380)):.0f}px"
        head = f'<svg role="img" aria-label="{escape(label, quote=True)}" style="{size}"'
        return body.replace("<svg", head, 1)
