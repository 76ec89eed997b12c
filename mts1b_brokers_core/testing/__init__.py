"""What adapter authors run against their adapter."""
