"""Promises about the repository as a whole: imports, names, size, documents, versions."""
