"""From ECGs to probabilities: model folders, the predictor, the models that ship, export."""
