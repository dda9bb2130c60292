"""Readers: one file format per module; each returns an `ecgkit.signals.ecg.ECG`."""
