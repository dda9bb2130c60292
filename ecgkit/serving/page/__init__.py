"""The page: an ECG in, the answer as a person reads it."""
