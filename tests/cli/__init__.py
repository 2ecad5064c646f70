"""The command line: what it writes, where, and the code it ends with."""
