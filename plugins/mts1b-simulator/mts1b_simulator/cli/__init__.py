"""What the simulator adds to the `mts mts1b-brokers` command."""
