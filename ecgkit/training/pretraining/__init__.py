"""Pretraining an encoder on folds 1-8 without labels: configuration, objectives, fitting, and how good its features are."""
