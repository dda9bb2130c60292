"""Readers: one file format a module, each gives an `ecgkit.signals.ecg.ECG`."""
