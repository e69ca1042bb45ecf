"""What every part may use, data_prep too: audio files, resampling, yaml, permutations."""
