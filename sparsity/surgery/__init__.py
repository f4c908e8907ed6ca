"""Taking the sparse network away: what a trained state becomes outside of training."""
