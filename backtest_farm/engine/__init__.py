"""The one place where specs become kernel arrays: a tile of trials in, rows and results out."""
