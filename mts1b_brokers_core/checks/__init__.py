"""The health checks behind `mts mts1b-brokers test`."""
