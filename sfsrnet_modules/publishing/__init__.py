"""Model folders: safetensors, model card, ONNX, made from a training's output folder."""
