"""Training of a classifier: phases, schedules, augmentation, checkpoints, several processes.

Run by `train`, `capetown labels` and the smoke test. May import: `pools.model`, `pools.dataset`,
`pools.metrics` and the modules at the top of the package.
"""
