"""What `simulator` is made of."""
