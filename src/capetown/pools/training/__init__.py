"""Training of a classifier: phases, schedules, augmentation, checkpoints, processes.

Run by `train` alone. May import: `pools.model`, `pools.tiles`, `pools.scoring` and the modules at
the top of the package.
"""
