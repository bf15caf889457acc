"""What files of models have in common, whatever their format."""
