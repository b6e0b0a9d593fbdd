"""What a study found: its best trial, its pictures, its recipe, and whether tuning helped."""
