"""What to buy: GPUs, offers, prices, what a run needs, how fast it goes and what it costs."""
