"""The data map: an empty plot with its tools, to which the page gives its points."""

from __future__ import annotations

from typing import Any

PLOT, POINTS, CURRENT, COLORS = "plot", "points", "current", "colors"
TOOLS = {"lasso": "lasso_select", "box": "box_select", "zoom": "box_zoom", "move": "pan"}
"""The names by which the page's scripts find the parts of the plot, and Bokeh's of its tools."""
SIZES = {3_000: 5.0, 20_000: 4.0}
"""The diameter of a point on a page of fewer samples, in pixels."""
SMALLEST = 3.0


def import_bokeh() -> None:
    """Import Bokeh, which draws the data map.

    Raises:
        ImportError: If it is not installed; the error names the remedy.
    """
    try:
        import bokeh  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"the explorer's data map needs {error.name}: pip install 'infobatch[explore]'"
        ) from error


def plot_library() -> str:
    """The script of Bokeh, which a page holds so that it needs no network."""
    from bokeh.resources import Resources

    return "\n".join(Resources(mode="inline", components=["bokeh"], log_level="warn").js_raw)


def empty_map(num_points: int) -> dict[str, Any]:
    """The plot as BokehJS takes it, for about as many points."""
    from bokeh.embed import json_item
    from bokeh.models import ColumnDataSource, HoverTool, LinearColorMapper
    from bokeh.plotting import figure

    plot = figure(
        name=PLOT,
        sizing_mode="stretch_both",
        min_height=320,
        tools=",".join(TOOLS.values()),
        active_drag="lasso_select",
        toolbar_location=None,
        x_range=(0, 1),
        y_range=(0, 1),
        output_backend="canvas",
        outline_line_color="#d5d9de",
    )
    for name, tool in zip(TOOLS, plot.tools, strict=True):
        tool.name = name
        if name in ("lasso", "box"):
            tool.continuous = False
            tool.overlay.fill_alpha = 0.1
    plot.grid.grid_line_color = "#eceef1"
    plot.axis.axis_line_color = plot.axis.major_tick_line_color = "#d5d9de"
    plot.axis.minor_tick_line_color = None
    columns: dict[str, list[float]] = {name: [] for name in ("x", "y", "value", "index", "class")}
    points = ColumnDataSource(columns, name=POINTS)
    colors = LinearColorMapper(palette=["#0072B2"], low=0, high=1, nan_color="#c3c8ce", name=COLORS)
    drawn = plot.scatter(
        "x",
        "y",
        source=points,
        size=next((size for number, size in SIZES.items() if num_points < number), SMALLEST),
        line_color=None,
        fill_color={"field": "value", "transform": colors},
        fill_alpha=0.7,
        nonselection_fill_alpha=0.06,
    )
    current = ColumnDataSource({"x": [], "y": []}, name=CURRENT)
    plot.scatter(
        "x",
        "y",
        source=current,
        size=14,
        line_color="#1a1d21",
        line_width=2,
        fill_color=None,
        level="overlay",
    )
    plot.add_tools(
        HoverTool(renderers=[drawn], tooltips=[("sample", "@index{0}"), ("class", "@class")], limit=1)
    )
    item: dict[str, Any] = json_item(plot, "map")
    return item
