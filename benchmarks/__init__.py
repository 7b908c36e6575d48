"""Measurements of speed, memory and quality; README.md has the figures."""
