"""Tuning with Optuna: see README.md beside this file."""
