"""From ECGs to probabilities: model folders, the predictor, the models that ship, export."""

DEFAULT_MODEL = "resnet1d"
"""The model that answers where none is named: one that was trained with the faults that recordings have."""
