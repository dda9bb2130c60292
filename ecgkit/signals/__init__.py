"""ECG signals without a network: the record, filters, preparation, rhythm, beats, measurements."""
