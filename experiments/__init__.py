"""Recipes, and the commands that run several of them."""
