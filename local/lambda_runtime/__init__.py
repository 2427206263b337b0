"""AWS Lambda on this machine: AWS's own runtime client in processes of ours, which are frozen while they are idle.

What the real one does and this does not: IAM, limits of memory, layers, extensions, provisioned concurrency.
"""
