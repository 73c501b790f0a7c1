"""The parts of `experiments.evaluate`: find images, score them, summarise the scores, draw them side by side."""
