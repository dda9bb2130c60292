"""Pretraining an encoder on folds 1-8 without labels: configuration, objectives, fitting."""
