"""Benchmarks. What imports no more than this has no app, and no tasks, of theirs."""

#: Where the messages of the benchmarks go.
QUEUE = "benchmark"
