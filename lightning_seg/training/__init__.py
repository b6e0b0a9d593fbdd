"""The LightningModule with its losses, optimiser, schedule and options."""
