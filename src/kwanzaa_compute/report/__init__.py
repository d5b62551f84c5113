"""A plan as one HTML page: no request, no script, light and dark as the reader's system has it."""

from kwanzaa_compute.report.page import plan_page

__all__ = ["plan_page"]
