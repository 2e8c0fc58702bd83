"""A model becomes one file of another runtime, with a certificate that it finds the same points."""
