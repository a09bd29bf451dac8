"""Each signal on frames that show one thing."""
