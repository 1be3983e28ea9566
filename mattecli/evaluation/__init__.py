"""Measuring mattes: the field's metrics, data sets on disk, and the report."""
