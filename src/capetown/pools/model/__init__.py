"""A classifier: its architecture, published weights, files, device, inference and saliency.

Run by `train`, `evaluate` and `capetown predict`. May import: `pools.dataset`, `pools.metrics` and
the modules at the top of the package.
"""
