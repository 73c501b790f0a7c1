"""Questions about the method."""
