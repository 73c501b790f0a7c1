"""Questions about the cost and correctness of the code."""
