"""What is done to an ECG without a network: the record itself, filters, rhythm."""
