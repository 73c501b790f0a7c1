"""The parts of `experiments.evaluate`: find images, choose and compute scores, summarise them, draw side by side."""
