"""What trains a model: the loop's hooks, losses, many processes, checkpoints."""
