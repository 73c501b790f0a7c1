"""PPO and SAC, each in one file that needs only PyTorch, Gymnasium and NumPy: to be read, copied and changed."""
