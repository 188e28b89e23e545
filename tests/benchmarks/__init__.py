"""Figures, not tests: what the package costs against its peers. Run with ``python -m tests.benchmarks``."""
