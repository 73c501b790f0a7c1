"""The paper's tables and figures, a module each: what is measured, and the published numbers beside it."""
