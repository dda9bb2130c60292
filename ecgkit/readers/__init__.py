"""Readers: one file format a module, each gives an `ecgkit.ecg.ECG`."""
