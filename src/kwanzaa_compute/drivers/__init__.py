"""How to get a machine: the contract that adapters implement, and its portable face."""
