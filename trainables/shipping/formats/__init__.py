"""Writes the files that are shipped: ONNX, a program of torch.export, packed weights."""
