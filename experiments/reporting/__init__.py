"""Recorded runs as one HTML page."""
