"""Seeing a run through: the lifecycle's decisions, the ledger, and the supervisor that acts."""
