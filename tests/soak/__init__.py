"""Far more books than a usual test run has time for: ``make soak``, which is no part of CI.

``contract`` compares the kernel with the oracle and checks the invariants on what it leaves; ``relations``
changes books in ways that must change nothing, or exactly one thing. Both draw their books by seed, so that
whatever they find can be drawn again.
"""
