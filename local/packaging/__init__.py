"""Zips for AWS Lambda, one per role, the same bytes from the same checkout: `python -m local.packaging --out DIR`."""
