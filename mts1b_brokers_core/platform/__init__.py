"""How to talk to the outside: clocks and durable stores."""
