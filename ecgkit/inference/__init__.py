"""From ECGs to probabilities: model folders, the predictor, the weights that ship, export."""
