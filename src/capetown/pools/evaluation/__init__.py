"""Evaluation on the test fold, comparison of experiments, and the audit of labels."""
