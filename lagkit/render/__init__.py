"""Renderers: a report, or a figure of one, as bytes of one format each. They compute nothing."""
