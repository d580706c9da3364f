"""The kit's scheduler beside its peers; `python -m benchmarks.performance`."""
