"""The paper broker: a simulated exchange in process, durable, without credentials."""
