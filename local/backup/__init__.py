"""`./zh backup` and `./zh restore`: everything that a ZapHub needs to come back without a QR code, in one file."""
