"""The MLX engine, through mlx-lm."""
