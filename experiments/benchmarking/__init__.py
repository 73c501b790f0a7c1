"""Many runs, and how the policies compare."""
