"""Swimming pools in aerial tiles: folds, the classifier, its judgement and its use.

Nothing here knows requests or hexagons of requests. The rooms below are divided by the stages that
run them; the files beside them serve several. May import: the modules at the top of the package.
"""
