"""The command line, run as a user runs it: another process, its streams and its exit code."""
