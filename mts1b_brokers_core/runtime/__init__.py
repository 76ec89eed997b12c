"""What an order management system starts: configure, discover, open, route, close."""
