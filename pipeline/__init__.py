"""Warmstart: nightly retraining for recommenders where data is thin."""
