"""What the tests need to drive a real gateway from outside."""
