"""A checkpoint as a model that others load: for Hugging Face (`hf`), ONNX (`onnx`) and torch
programs (`program`)."""
