"""Explanations of a trained model: attributions, concept directions and mean beats."""
