"""A stand-in for Terraform's AWS provider: its schema, and nothing behind it, for machines that no registry reaches."""
