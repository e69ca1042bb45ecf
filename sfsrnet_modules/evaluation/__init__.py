"""What judges a model: metrics, scoring of test sets, figures and pictures."""
