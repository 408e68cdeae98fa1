"""What a person sees: JSON and CSV, boxes and heat maps drawn on images, the self-contained HTML page."""

from patchwise.report.draw import contact_sheet, draw_hit
from patchwise.report.html import ReportHit, ReportPart, ReportSection, render_html
from patchwise.report.text import CSV_HEADER, csv_rows, result_to_json, table_lines

__all__ = [
    "CSV_HEADER",
    "ReportHit",
    "ReportPart",
    "ReportSection",
    "contact_sheet",
    "csv_rows",
    "draw_hit",
    "render_html",
    "result_to_json",
    "table_lines",
]
