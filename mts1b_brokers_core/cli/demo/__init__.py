"""The demo: a small order management system trades one strategy on recorded market data."""
