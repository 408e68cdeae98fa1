"""What a person sees: JSON and CSV, boxes and heat maps drawn on images, the self-contained HTML page."""

from patchwise.report.draw import contact_sheet, draw_hit
from patchwise.report.html import ReportHit, ReportPart, ReportSection, render_html
from patchwise.report.text import (
    CSV_HEADER,
    by_chance,
    csv_rows,
    hit_from_json,
    region_from_json,
    result_to_json,
    split_by_verdict,
    table_lines,
)

__all__ = [
    "CSV_HEADER",
    "ReportHit",
    "ReportPart",
    "ReportSection",
    "by_chance",
    "contact_sheet",
    "csv_rows",
    "draw_hit",
    "hit_from_json",
    "region_from_json",
    "render_html",
    "result_to_json",
    "split_by_verdict",
    "table_lines",
]
