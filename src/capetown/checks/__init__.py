"""Checks before work starts: of a source, of a stage, and of everything at once.

May import: every subpackage except `report`.
"""
