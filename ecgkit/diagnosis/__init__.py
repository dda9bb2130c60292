"""The answer to ECG files as a step of the workflow: its parameters, and examples to try it with."""
