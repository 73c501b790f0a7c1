"""One run: an agent, a task, a directory."""
