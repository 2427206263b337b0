"""The seven queues: policies, the ledger, the drain that works them, the bells that wake it."""
