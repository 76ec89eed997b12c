"""The reference venue as a broker: the example of how an adapter is built."""
